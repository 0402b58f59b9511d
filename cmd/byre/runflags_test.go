package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// parse returns the flags that args set.
func parse(t *testing.T, args ...string) *runFlags {
	t.Helper()
	var f runFlags
	s := pflag.NewFlagSet("run", pflag.ContinueOnError)
	f.add(s)
	if err := s.Parse(args); err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return &f
}

func TestRunFlagsRefused(t *testing.T) {
	for _, c := range []struct {
		want string
		args []string
	}{
		{"no such file", []string{"-v", "/nope:/b"}},
		{"want always, missing or never", []string{"--pull", "often"}},
		{"want auto, kvm or tcg", []string{"--accel", "xen"}},
		{"negative", []string{"--vm-cpus", "-1"}},
		{"--memory", []string{"-m", "lots"}},
		{"--memory", []string{"-m", "-5m"}},
		{"--shm-size", []string{"--shm-size", "0"}},
		{"--ulimit", []string{"--ulimit", "nofile"}},
		{"is not NAME=value", []string{"-e", "=x"}},
		{"--env-file", []string{"--env-file", "/nope"}},
		{"less than a megabyte", []string{"--vm-memory", "1k"}},
		{"more than any host has", []string{"--vm-memory", "99999999g"}},
		{"too small for --memory", []string{"--vm-memory", "256m", "-m", "200m"}},
	} {
		f := parse(t, c.args...)
		err := f.check()
		if err == nil {
			o, serr := f.spec(nil)
			if err = serr; err == nil {
				_, _, err = f.vm(o.Memory)
			}
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %v, want %q", c.args, err, c.want)
		}
	}
}

func TestVMSize(t *testing.T) {
	for _, c := range []struct {
		args     []string
		mb, cpus int32
	}{
		{nil, 0, 0},
		{[]string{"-m", "512m"}, 512 + guestShare, 0},
		{[]string{"-m", "512m", "--vm-memory", "2g"}, 2048, 0},
		{[]string{"--cpus", "1.5"}, 0, 2},
		{[]string{"--cpus", "0.5", "--vm-cpus", "4"}, 0, 4},
	} {
		f := parse(t, c.args...)
		o, err := f.spec(nil)
		if err != nil {
			t.Fatal(err)
		}
		mb, cpus, err := f.vm(o.Memory)
		if err != nil || mb != c.mb || cpus != c.cpus {
			t.Errorf("%q: got %d MB, %d processors, %v; want %d, %d", c.args, mb, cpus, err, c.mb, c.cpus)
		}
	}
}

func TestEnvironment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(file, []byte("# remark\n\nA=1\n  B=two words\nFROM_HERE\nNOT_HERE\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("FROM_HERE", "yes")
	got, err := parse(t, "--env-file", file, "-e", "A=3", "-e", "C=").environment()
	want := []string{"A=1", "B=two words", "FROM_HERE=yes", "A=3", "C="}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}
