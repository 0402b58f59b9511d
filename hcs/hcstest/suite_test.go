package hcstest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

func TestTestEngine(t *testing.T) {
	for _, removable := range []bool{false, true} {
		t.Run(fmt.Sprintf("PMemRemovable=%v", removable), func(t *testing.T) {
			var machines sync.Map
			e := New(Config{
				Host: hcs.HostInfo{PMemRemovable: removable, PCIDevices: 4},
				Boot: func(m *Machine) {
					machines.Store(m.ID(), m)
					(&Guest{Program: Sleep}).Boot(m)
				},
				Strict:     true,
				CheckFiles: true,
			})
			f := fixture(e)
			f.GuestDial = func(t T, s hcs.System, service hcs.ServiceID) net.Conn {
				for {
					m, ok := machines.Load(s.ID())
					if !ok {
						runtime.Gosched() // it has only just been started
						continue
					}
					c, err := m.(*Machine).Dial(service)
					if err != nil {
						t.Fatalf("dial from the guest: %v", err)
					}
					return c
				}
			}
			TestEngine(Wrap(t), f)
			if n := e.Systems(); n != 0 {
				t.Errorf("%d systems left", n)
			}
		})
	}
}

func fixture(e *Engine) Fixture {
	var files atomic.Int64
	file := func(t T) string {
		p := filepath.Join(t.TempDir(), fmt.Sprint(files.Add(1)))
		if err := os.WriteFile(p, make([]byte, 512), 0o600); err != nil {
			t.Fatalf("%v", err)
		}
		return p
	}
	ends := map[string]End{}
	for k := hcs.ExitGuest; k <= hcs.ExitOther; k++ {
		ends[k.String()] = End{
			Kind: k,
			Do:   func(_ T, s hcs.System) { s.(*System).Exit(&hcs.Exit{Kind: k}) },
		}
	}
	return Fixture{
		Engine: e,
		System: func(T) *hcsschema.ComputeSystem {
			return &hcsschema.ComputeSystem{
				SchemaVersion: hcsschema.SchemaV21(),
				VirtualMachine: &hcsschema.VirtualMachine{Devices: &hcsschema.Devices{
					Scsi:        map[string]hcsschema.Scsi{"0": {}},
					VirtualPMem: &hcsschema.VirtualPMemController{MaximumCount: 2},
				}},
			}
		},
		Disk: file,
		PMem: func(t T) hcsschema.VirtualPMemDevice {
			return hcsschema.VirtualPMemDevice{HostPath: file(t), ReadOnly: true, ImageFormat: hcsschema.ImageFormatVhd1}
		},
		Folder: func(t T) string { return t.TempDir() },
		Socket: file,
		PCI: func(T) hcsschema.VirtualPciDevice {
			return hcsschema.VirtualPciDevice{Functions: []hcsschema.VirtualPciFunction{{DeviceInstancePath: "a device"}}}
		},
		Refused: map[string]string{"Toaster": `{"VirtualMachine":{"Devices":{"Toaster":{}}}}`},
		Ends:    ends,
		Residue: func(T) []string { return slices.Repeat([]string{"a system"}, e.Systems()) },
	}
}
