package uvm

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"unsafe"

	"github.com/Microsoft/go-winio/pkg/guid"
	"golang.org/x/sys/windows"
)

// A memoryProcess is the process in which Windows keeps the memory of a VM:
// vmmem, which runs as an account that is named after the VM. It is looked
// for when it is first asked for, and again after a failure. The zero value is
// ready to use.
type memoryProcess struct {
	mu     sync.Mutex
	handle windows.Handle // 0 before it was found; guarded by mu
	closed bool           // guarded by mu
}

// workingSet returns how much memory of the host the VM uses, in bytes.
func (m *memoryProcess) workingSet(vm guid.GUID) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return 0, windows.ERROR_INVALID_HANDLE
	}
	if m.handle == 0 {
		h, err := findMemoryProcess(strings.ToUpper(vm.String()))
		if err != nil {
			return 0, err
		}
		m.handle = h
	}
	return processWorkingSet(m.handle)
}

// close gives the handle back. A second call does nothing.
func (m *memoryProcess) close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	h := m.handle
	if m.handle = 0; h == 0 {
		return nil
	}
	return windows.CloseHandle(h)
}

// findMemoryProcess opens the process of the VM with that name. The caller
// closes it.
func findMemoryProcess(vm string) (windows.Handle, error) {
	snapshot, err := windows.CreateToolhelp32Snapshot(windows.TH32CS_SNAPPROCESS, 0)
	if err != nil {
		return 0, fmt.Errorf("listing processes: %w", err)
	}
	defer windows.CloseHandle(snapshot)
	e := windows.ProcessEntry32{Size: uint32(unsafe.Sizeof(windows.ProcessEntry32{}))}
	var errs []error
	for err = windows.Process32First(snapshot, &e); err == nil; err = windows.Process32Next(snapshot, &e) {
		if !strings.EqualFold(windows.UTF16ToString(e.ExeFile[:]), "vmmem") {
			continue
		}
		h, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, e.ProcessID)
		if err != nil {
			errs = append(errs, err) // it may have ended since
			continue
		}
		ok, err := runsAs(h, vm, "NT VIRTUAL MACHINE")
		if ok {
			return h, nil
		}
		errs = append(errs, err, windows.CloseHandle(h))
	}
	if !errors.Is(err, windows.ERROR_NO_MORE_FILES) {
		errs = append(errs, err)
	}
	return 0, fmt.Errorf("no memory process of utility VM %s: %w", vm, errors.Join(append(errs, windows.ERROR_NOT_FOUND)...))
}

// runsAs reports whether a process runs as an account.
func runsAs(process windows.Handle, name, domain string) (bool, error) {
	var t windows.Token
	if err := windows.OpenProcessToken(process, windows.TOKEN_QUERY, &t); err != nil {
		return false, err
	}
	defer t.Close()
	u, err := t.GetTokenUser()
	if err != nil {
		return false, err
	}
	n, d, _, err := u.User.Sid.LookupAccount("")
	if err != nil {
		return false, err
	}
	return strings.EqualFold(n, name) && strings.EqualFold(d, domain), nil
}

// processMemoryCounters is PROCESS_MEMORY_COUNTERS.
type processMemoryCounters struct {
	size, pageFaults                                         uint32
	peakWorkingSet, workingSet                               uintptr
	peakPagedPool, pagedPool, peakNonPagedPool, nonPagedPool uintptr
	pagefile, peakPagefile                                   uintptr
}

var getProcessMemoryInfo = windows.NewLazySystemDLL("kernel32.dll").NewProc("K32GetProcessMemoryInfo")

func processWorkingSet(h windows.Handle) (uint64, error) {
	if err := getProcessMemoryInfo.Find(); err != nil {
		return 0, err
	}
	c := processMemoryCounters{size: uint32(unsafe.Sizeof(processMemoryCounters{}))}
	r, _, err := getProcessMemoryInfo.Call(uintptr(h), uintptr(unsafe.Pointer(&c)), uintptr(c.size))
	if r == 0 {
		return 0, fmt.Errorf("reading the memory of a process: %w", err)
	}
	return uint64(c.workingSet), nil
}
