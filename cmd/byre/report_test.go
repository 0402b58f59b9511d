package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/uvm"
)

func TestBootStages(t *testing.T) {
	began := time.Now()
	stage := func(name string, at, took int) hcs.Stage {
		return hcs.Stage{Name: name, At: began.Add(time.Duration(at)), Took: time.Duration(took)}
	}
	all := []hcs.Stage{
		stage(uvm.StageCreate, 0, 10), stage("cgroup", 1, 2), stage("vmm-spawn", 3, 5), stage("devices", 8, 2),
		stage(uvm.StageVMM, 10, 5), stage("guest-run", 10, 4),
		stage(uvm.StageKernel, 15, 40), // the init program, which fetches entropy after the agent has connected
		stage(uvm.StageInit, 55, 0), stage(uvm.StageAgent, 45, 5),
		stage(uvm.StageBridge, 55, 3),
	}
	for _, c := range []struct {
		name string
		n    int // stages that were passed
		want []hcs.Stage
	}{
		{"none", 0, nil},
		{"created", 4, []hcs.Stage{stage("VMM spawn", 0, 10)}},
		{"no guest", 6, []hcs.Stage{stage("VMM spawn", 0, 15)}},
		{"no bridge", 9, []hcs.Stage{stage("VMM spawn", 0, 15), stage("kernel", 15, 30)}},
		{"all", 10, []hcs.Stage{
			stage("VMM spawn", 0, 15), stage("kernel", 15, 30), stage("agent", 45, 10), stage("bridge", 55, 3),
		}},
	} {
		got := bootStages(all[:c.n])
		if len(got) != len(c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
			continue
		}
		for i, s := range got {
			if w := c.want[i]; s.Name != w.Name || !s.At.Equal(w.At) || s.Took != w.Took {
				t.Errorf("%s: got %v, want %v", c.name, s, w)
			}
		}
	}
}

func TestLastWords(t *testing.T) {
	var g guestLog
	for _, s := range []string{`{"level":"info","msg":"x"}` + "\n", "panic: ", "no\x1b[2J\n", "\n", `{"msg":"y"}` + "\n", "goroutine 1:"} {
		g.Write([]byte(s))
	}
	if got, want := g.lastWords(), "\tpanic: no.[2J\n\tgoroutine 1:"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Words of a guest, an image or a registry in an error cannot change a
// terminal.
func TestPrintError(t *testing.T) {
	var out strings.Builder
	printError(&out, errors.New("guest: \x1b]0;title\x07 \xff\u009b31m\r\x7fünï\nthe guest said:\n\tpanic"))
	if got, want := out.String(), "byre: guest: .]0;title. ?.31m..ünï\nthe guest said:\n\tpanic\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
