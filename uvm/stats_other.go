//go:build !windows

package uvm

import "github.com/Microsoft/go-winio/pkg/guid"

// A memoryProcess is nothing here: engines of this system know what their VMs
// use.
type memoryProcess struct{}

func (*memoryProcess) workingSet(guid.GUID) (uint64, error) { return 0, nil }

func (*memoryProcess) close() error { return nil }
