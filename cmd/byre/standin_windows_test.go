package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/windows"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcs/hcstest"
	"github.com/byrevm/byre/test/wine/standin"
)

// standinEnv in the environment makes this program byre itself, on the
// stand-ins of test/wine for the DLLs and with a guest in memory.
const standinEnv = "BYRE_STANDIN"

// codeLeft is the exit code of such a program that has left something.
const codeLeft = 99

func TestMain(m *testing.M) {
	if os.Getenv(standinEnv) != "" {
		os.Exit(runOnStandin(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// runOnStandin is [Main], but for what it has left open.
func runOnStandin(args []string) int {
	t := new(programT)
	guest := &hcstest.Guest{Program: shell}
	standin.Host(t, hcstest.New(hcstest.Config{
		Boot: guest.Boot, Host: hcs.HostInfo{PMemRemovable: true, Processors: 4}, Strict: true, CheckFiles: true,
	}), standin.Script{})
	code := Main(args)
	for _, f := range slices.Backward(t.cleanup) {
		f()
	}
	network := windows.NewLazySystemDLL("computenetwork.dll")
	for _, name := range []string{"StandinNetworkHandles", "StandinNetworkMisuses"} {
		if n, _, _ := network.NewProc(name).Call(); n != 0 {
			t.Errorf("%s: %d", name, n)
		}
	}
	if t.failed {
		return codeLeft
	}
	return code
}

// A programT is what a stand-in needs of a test, in a program.
type programT struct {
	failed  bool
	cleanup []func()
}

func (t *programT) Helper()          {}
func (t *programT) Cleanup(f func()) { t.cleanup = append(t.cleanup, f) }

func (t *programT) Errorf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	t.failed = true
}

func (t *programT) Fatalf(format string, args ...any) {
	t.Errorf(format, args...)
	os.Exit(codeLeft)
}

// shell is what runs in the containers.
func shell(ctx context.Context, p *hcstest.Process) int {
	if len(p.Args) == 0 {
		return 2
	}
	switch p.Args[0] {
	case "echo":
		fmt.Fprintln(p.Stdout, strings.Join(p.Args[1:], " "))
	case "warn":
		fmt.Fprintln(p.Stderr, strings.Join(p.Args[1:], " "))
	case "cat":
		io.Copy(p.Stdout, p.Stdin)
	case "exit":
		code, _ := strconv.Atoi(p.Args[1])
		return code
	default:
		return 2
	}
	return 0
}

// A result is how a program ended.
type result struct {
	code        int
	out, errOut string
}

// byre runs the command as a user does, in a process of its own.
func byre(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), standinEnv+"=1")
	cmd.Stdin = strings.NewReader(stdin)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("byre %q: %v", args, err)
	}
	r := result{cmd.ProcessState.ExitCode(), out.String(), errOut.String()}
	if r.code == codeLeft {
		t.Errorf("byre %q has left something: %s", args, r.errOut)
	}
	return r
}
