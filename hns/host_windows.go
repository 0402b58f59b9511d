package hns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

func host() Network { return &hcn{service: hcnDLL{}} }

func newSession() (Session, error) {
	s, err := newHCNSession(hcnDLL{}, processStarted, uint32(os.Getpid()))
	if err != nil {
		return nil, err
	}
	return s, nil
}

// processStarted implements hcnProcesses.
func processStarted(pid uint32) (uint64, error) {
	p, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION|windows.SYNCHRONIZE, false, pid)
	if errors.Is(err, windows.ERROR_INVALID_PARAMETER) {
		return 0, fmt.Errorf("process %d: %w", pid, fs.ErrNotExist)
	}
	if err != nil {
		return 0, fmt.Errorf("opening process %d: %w", pid, err)
	}
	defer windows.CloseHandle(p)
	// One that has ended is there as long as somebody has a handle of it.
	if e, err := windows.WaitForSingleObject(p, 0); err == nil && e == windows.WAIT_OBJECT_0 {
		return 0, fmt.Errorf("process %d has ended: %w", pid, fs.ErrNotExist)
	}
	var created, exited, kernel, user windows.Filetime
	if err := windows.GetProcessTimes(p, &created, &exited, &kernel, &user); err != nil {
		return 0, fmt.Errorf("asking when process %d started: %w", pid, err)
	}
	return uint64(created.HighDateTime)<<32 | uint64(created.LowDateTime), nil
}
