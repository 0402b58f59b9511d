package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcs/hcstest"
	"github.com/byrevm/byre/hcsschema"
)

func TestSelfSuite(t *testing.T) {
	var out bytes.Buffer
	s := &selfSuite{only: regexp.MustCompile("^[^x]"), out: &out}
	var order []string
	dir := ""
	s.run(t.Context(), func(t hcstest.T) {
		t.Run("passes", func(t hcstest.T) {
			ctx := t.Context()
			t.Cleanup(func() { order = append(order, "first") })
			t.Cleanup(func() {
				if ctx.Err() == nil {
					t.Errorf("the context has not ended")
				}
				order = append(order, "second")
			})
			dir = t.TempDir()
			t.Cleanup(func() {
				if _, err := os.Stat(dir); err != nil {
					t.Errorf("the folder has gone too early: %v", err)
				}
				order = append(order, "third")
			})
			t.Logf("a note")
		})
		t.Run("x", func(t hcstest.T) { order = append(order, "not asked for") })
		t.Run("fails", func(t hcstest.T) {
			t.Run("part", func(t hcstest.T) {
				t.Errorf("wrong")
				t.Errorf("and worse")
			})
			if !t.Failed() {
				order = append(order, "a part that failed does not fail the whole")
			}
		})
		t.Run("ends", func(t hcstest.T) {
			t.Cleanup(func() { t.Fatalf("the clean-up too") })
			t.Cleanup(func() { order = append(order, "fourth") })
			t.Fatalf("at once")
		})
		t.Run("panics", func(t hcstest.T) { panic("oh") })
		t.Run("passes too", func(t hcstest.T) {})
	})
	if want := []string{"third", "second", "first", "fourth"}; !slices.Equal(order, want) {
		t.Errorf("got %q, want %q", order, want)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder of a test is there: %v", err)
	}
	r := &selfReport{}
	r.finish(s, 0, false)
	if r.Passed != 2 || r.Failed != 3 || r.OK {
		t.Errorf("got %+v, want 2 that passed and 3 that failed", r)
	}
	for _, want := range []string{"ok   passes_too (", "FAIL   fails/part (", "wrong\n\tand worse", "FAIL ends (", "the clean-up too", "panic: oh"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got %s, want %q in it", out.String(), want)
		}
	}
}

// memoryFixture is the engine in memory.
func memoryFixture() hcstest.Fixture {
	e := hcstest.New(hcstest.Config{Strict: true, CheckFiles: true})
	files := 0
	file := func(t hcstest.T) string {
		files++
		p := filepath.Join(t.TempDir(), fmt.Sprint(files))
		if err := os.WriteFile(p, make([]byte, 512), 0o600); err != nil {
			t.Fatalf("%v", err)
		}
		return p
	}
	return hcstest.Fixture{
		Engine: e,
		System: func(hcstest.T) *hcsschema.ComputeSystem {
			return &hcsschema.ComputeSystem{
				SchemaVersion:  hcsschema.SchemaV21(),
				VirtualMachine: &hcsschema.VirtualMachine{Devices: &hcsschema.Devices{Scsi: map[string]hcsschema.Scsi{"0": {}}}},
			}
		},
		Disk:    file,
		Refused: map[string]string{"Toaster": `{"VirtualMachine":{"Devices":{"Toaster":{}}}}`},
		Ends: map[string]hcstest.End{"by itself": {Kind: hcs.ExitGuest, Do: func(_ hcstest.T, s hcs.System) {
			e.System(s.ID()).Exit(&hcs.Exit{Kind: hcs.ExitGuest})
		}}},
		Residue: func(hcstest.T) []string { return slices.Repeat([]string{"a system"}, e.Systems()) },
	}
}

// The suite means the same in a program and in a test: an engine that passes
// there passes here, and its faults are found.
func TestSelftestInMemory(t *testing.T) {
	run := func(f hcstest.Fixture) *selfReport {
		s := &selfSuite{only: regexp.MustCompile(""), out: t.Output()}
		s.run(t.Context(), func(t hcstest.T) { hcstest.TestEngine(t, f) })
		r := &selfReport{}
		r.finish(s, 0, false)
		return r
	}
	r := run(memoryFixture())
	if !r.OK || r.Passed < 15 {
		t.Errorf("got %s", r.Summary)
	}
	broken := memoryFixture()
	broken.Disk = func(t hcstest.T) string { t.Fatalf("no disks today"); return "" }
	if r := run(broken); r.OK || r.Passed < 10 || r.Failed < 1 {
		t.Errorf("without disks: got %s", r.Summary)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := &selfSuite{only: regexp.MustCompile(""), out: t.Output()}
	s.run(ctx, func(t hcstest.T) { hcstest.TestEngine(t, memoryFixture()) })
	if len(s.results) != 0 {
		t.Errorf("got %v after an interrupt, want nothing", s.results)
	}
}

func selftest(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	root := newRoot()
	root.SetOut(&out)
	root.SetArgs(append([]string{"selftest"}, args...))
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

func TestSelftestFlags(t *testing.T) {
	if _, err := selftest(t, "--run", "("); err == nil {
		t.Error("a pattern that is none is taken")
	}
	out, err := selftest(t, "--run", "^NoSuchTest$")
	var exit *exitError
	if !errors.As(err, &exit) || exit.code != 1 || !strings.Contains(out, "no test has such a name") {
		t.Errorf("got %v and %s, want exit code 1 and a reason", err, out)
	}
}

func decodeReport(t *testing.T, out string) (r selfReport) {
	t.Helper()
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return r
}
