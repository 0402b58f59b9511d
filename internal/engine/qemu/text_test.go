//go:build linux

package qemu

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/byrevm/byre/hcsschema"
)

// Texts that would be cut are refused before anything is made.
func TestCutText(t *testing.T) {
	line := func(s string) func(*hcsschema.ComputeSystem) {
		return func(cs *hcsschema.ComputeSystem) {
			cs.VirtualMachine.Chipset = &hcsschema.Chipset{LinuxKernelDirect: &hcsschema.LinuxKernelDirect{
				KernelFilePath: os.Args[0], KernelCmdLine: s,
			}}
		}
	}
	for _, c := range []struct {
		id, says string
		change   func(*hcsschema.ComputeSystem)
	}{
		{"a\x00b", "id", nil},
		{"vm", "kernel command line", line("a\x00b")},
		{"vm", "at most 2047", line(strings.Repeat("a", maxCmdline))}, // and the words of this engine
		{"vm", "serial port", func(cs *hcsschema.ComputeSystem) {
			cs.VirtualMachine.Devices.ComPorts = map[string]hcsschema.ComPort{"0": {NamedPipe: t.TempDir() + "/a\x00b"}}
		}},
	} {
		e := testEngine(t)
		checkResidue(t, e)
		s, err := e.Create(t.Context(), c.id, testDocument(t, c.change))
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("got %v, want %q", err, c.says)
		}
		if _, err := os.Stat(e.run.path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the run folder was made: %v", err)
		}
	}
}
