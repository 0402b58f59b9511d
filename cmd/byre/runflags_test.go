package main

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
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
		{"--vm-cpus", []string{"--vm-cpus", "-1"}},
		{"--memory", []string{"-m", "lots"}},
		{"--memory", []string{"-m", "-5m"}},
		{"--shm-size", []string{"--shm-size", "0"}},
		{"--ulimit", []string{"--ulimit", "nofile"}},
		{"is not NAME=value", []string{"-e", "=x"}},
		{"--env-file", []string{"--env-file", "/nope"}},
		{"between 0.01 and", []string{"--cpus", "-1"}},
		{"between 0.01 and", []string{"--cpus", "0"}},
		{"between 0.01 and", []string{"--cpus", "nan"}},
		{"between 0.01 and", []string{"--cpus", "1e300"}},
		{"--vm-cpus", []string{"--vm-cpus", "999999999999"}},
		{"more than any host has", []string{"-m", "1e30"}},
		{"more than any host has", []string{"-m", "9223372036854775807"}},
		{"more than any host has", []string{"--shm-size", "99999999999999999999g"}},
		{"such as 512m", []string{"-m", "é"}},
		{"--name", []string{"--name", "../x"}},
		{"--name", []string{"--name", strings.Repeat("x", 129)}},
		{"longer than", []string{"--hostname", strings.Repeat("x", 65)}},
		{"not known", []string{"--cap-add", "é"}},
		{"must be absolute", []string{"--tmpfs", ""}},
		{"not an absolute path", []string{"-w", "rel"}},
		{"no command", []string{"--entrypoint", ""}},
		{"name=soft[:hard]", []string{"--ulimit", "nofile=é"}},
		{"--stop-signal", []string{"--stop-signal", "SIGé"}},
		{"--stop-signal", []string{"--stop-signal", "RTMIN+31"}},
		{"--stop-signal", []string{"--stop-signal", "0"}},
		{"is not NAME=value", []string{"-e", "A=\x00"}},
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
	if err := os.WriteFile(file, []byte("\ufeffA=1\r\n# remark\n\n  B=two words\nFROM_HERE\nNOT_HERE\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("FROM_HERE", "yes")
	got, err := parse(t, "--env-file", file, "-e", "A=3", "-e", "C=", "-e", "NOT_HERE").environment()
	want := []string{"A=1", "B=two words", "FROM_HERE=yes", "A=3", "C=", "NOT_HERE"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

func TestEntrypointFlag(t *testing.T) {
	for _, c := range []struct {
		args, want []string
	}{
		{nil, nil},
		{[]string{"--entrypoint", "sh"}, []string{"sh"}},
		{[]string{"--entrypoint", ""}, []string{""}},
	} {
		o, err := parse(t, c.args...).spec([]string{"x"})
		if err != nil || !slices.Equal(o.Entrypoint, c.want) || (o.Entrypoint == nil) != (c.want == nil) {
			t.Errorf("%q: got %q, %v; want %q", c.args, o.Entrypoint, err, c.want)
		}
	}
}

func TestUlimitTwice(t *testing.T) {
	o, err := parse(t, "--ulimit", "nofile=1:2", "--ulimit", "core=0", "--ulimit", "nofile=7:-1").spec(nil)
	want := []specs.POSIXRlimit{{Type: "RLIMIT_CORE"}, {Type: "RLIMIT_NOFILE", Soft: 7, Hard: math.MaxUint64}}
	if err != nil || !slices.Equal(o.Ulimits, want) {
		t.Errorf("got %+v, %v; want %+v", o.Ulimits, err, want)
	}
}
