package uvm

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/Microsoft/go-winio/pkg/guid"
	"golang.org/x/sys/windows"
)

func TestMemoryProcess(t *testing.T) {
	var m memoryProcess
	vm, err := guid.NewV4()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // a failure is not kept
		if n, err := m.workingSet(vm); n != 0 || !errors.Is(err, windows.ERROR_NOT_FOUND) {
			t.Errorf("got %d, %v for a VM that does not run", n, err)
		}
	}
	// This process stands for the one that was found.
	m.handle, err = windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, uint32(os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := m.workingSet(vm); n < 1<<20 || err != nil {
		t.Errorf("got %d, %v for this process", n, err)
	}
	if err := errors.Join(m.close(), m.close()); err != nil {
		t.Error(err)
	}
	if _, err := m.workingSet(vm); !errors.Is(err, windows.ERROR_INVALID_HANDLE) {
		t.Errorf("got %v after close", err)
	}
}

func TestRunsAs(t *testing.T) {
	u, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		t.Fatal(err)
	}
	name, domain, _, err := u.User.Sid.LookupAccount("")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, domain string
		want         bool
	}{
		{strings.ToUpper(name), strings.ToLower(domain), true},
		{name, "NT VIRTUAL MACHINE", false},
		{"x", domain, false},
	} {
		if got, err := runsAs(windows.CurrentProcess(), c.name, c.domain); got != c.want || err != nil {
			t.Errorf("%s\\%s: %v, %v", c.domain, c.name, got, err)
		}
	}
}
