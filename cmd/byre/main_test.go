package main

import (
	"bytes"
	"strings"
	"testing"
)

// execute runs byre's command line without ending the process, and returns
// what it prints.
func execute(args ...string) (stdout string, err error) {
	root := newRoot()
	var out, errOut bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&errOut)
	root.SetArgs(args)
	err = root.Execute()
	return out.String(), err
}

// What is wrong on the command line is answered with what would be right.
func TestUsageErrors(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"run"}, "usage: byre run [flags] IMAGE [COMMAND [ARG...]]"},
		{[]string{"run", "--"}, "usage: byre run"},
		{[]string{"run", "--nosuch", "x"}, "unknown flag: --nosuch: see byre run --help"},
		{[]string{"run", "--timing=maybe", "x"}, "see byre run --help"},
		{[]string{"nosuch"}, "unknown command \"nosuch\""},
		{[]string{"image", "rm"}, "usage: byre image rm"},
		{[]string{"image", "ls", "x"}, "usage: byre image ls"},
		{[]string{"boot", "build"}, "usage: byre boot build [flags] DIR"},
		{[]string{"doctor", "x"}, "usage: byre doctor"},
	} {
		if _, err := execute(c.args...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %v, want %q", c.args, err, c.want)
		}
	}
}

// What the scripts of byre completion ask for.
func TestCompletion(t *testing.T) {
	t.Setenv("BYRE_CACHE", t.TempDir())
	for _, c := range []struct {
		args []string
		want string // words; the last is the directive. The shell leaves out what does not begin right
	}{
		{[]string{"run", "--pull", ""}, "always missing never :4"},
		{[]string{"run", "--accel", "k"}, "auto kvm tcg :4"},
		{[]string{"run", "--network", "b"}, "nat none bridge cni: :4"},
		{[]string{"run", "--boot-files", ""}, ":16"},
		{[]string{"run", "--env-file", ""}, ":0"},
		{[]string{"run", ""}, ":0"},
		{[]string{"run", "image", ""}, ":4"},
		{[]string{"image", "rm", ""}, ":4"},
		{[]string{"boot", "check", ""}, ":16"},
		{[]string{"image", "p"}, "prune pull :4"},
	} {
		out, err := execute(append([]string{"__completeNoDesc"}, c.args...)...)
		if got := strings.Join(strings.Fields(out), " "); err != nil || got != c.want {
			t.Errorf("%q: got %q, %v; want %q", c.args, got, err, c.want)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if out, err := execute("completion", shell); err != nil || !strings.Contains(out, "byre __complete") && !strings.Contains(out, "__complete") {
			t.Errorf("%s: %v, %d bytes", shell, err, len(out))
		}
	}
}
