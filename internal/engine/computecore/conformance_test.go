package computecore_test

import (
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcs/hcstest"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/test/wine/standin"
)

var update = flag.Bool("update", false, "write the table of resource paths")

// scripts are the ways in which the service may answer.
var scripts = map[string]standin.Script{
	"async": {},
	"sync":  {Sync: true},
}

func TestConformance(t *testing.T) {
	for name, script := range scripts {
		t.Run(name, func(t *testing.T) { conformance(t, script) })
	}
}

func conformance(t *testing.T, script standin.Script) {
	var machines sync.Map
	mem := hcstest.New(hcstest.Config{
		Host: hcs.HostInfo{PMemRemovable: true},
		Boot: func(m *hcstest.Machine) {
			machines.Store(m.ID(), m)
			(&hcstest.Guest{Program: hcstest.Sleep}).Boot(m)
		},
		Strict:     true,
		CheckFiles: true,
	})
	bench := standin.Start(t, mem, script)
	var files atomic.Int64
	file := func(t hcstest.T) string {
		p := filepath.Join(t.TempDir(), fmt.Sprint(files.Add(1)))
		if err := os.WriteFile(p, make([]byte, 512), 0o600); err != nil {
			t.Fatalf("%v", err)
		}
		return p
	}
	end := func(x hcs.Exit, kind hcs.ExitKind) hcstest.End {
		return hcstest.End{Kind: kind, Do: func(_ hcstest.T, s hcs.System) { mem.System(s.ID()).Exit(&x) }}
	}
	f := hcstest.Fixture{
		Engine: bench.Engine(hcs.HostInfo{}),
		System: func(hcstest.T) *hcsschema.ComputeSystem {
			return &hcsschema.ComputeSystem{
				SchemaVersion: hcsschema.SchemaV21(),
				VirtualMachine: &hcsschema.VirtualMachine{Devices: &hcsschema.Devices{
					Scsi:        map[string]hcsschema.Scsi{"0": {}},
					VirtualPMem: &hcsschema.VirtualPMemController{MaximumCount: 2},
				}},
			}
		},
		Disk: file,
		PMem: func(t hcstest.T) hcsschema.VirtualPMemDevice {
			return hcsschema.VirtualPMemDevice{HostPath: file(t), ReadOnly: true, ImageFormat: hcsschema.ImageFormatVhd1}
		},
		Folder: func(t hcstest.T) string { return t.TempDir() },
		Socket: file,
		PCI: func(hcstest.T) hcsschema.VirtualPciDevice {
			return hcsschema.VirtualPciDevice{Functions: []hcsschema.VirtualPciFunction{{DeviceInstancePath: `PCIP\VEN_1414`}}}
		},
		Refused: map[string]string{"Toaster": `{"VirtualMachine":{"Devices":{"Toaster":{}}}}`},
		Ends: map[string]hcstest.End{
			"guest exit": end(hcs.Exit{Kind: hcs.ExitGuest}, hcs.ExitGuest),
			"panic":      end(hcs.Exit{Kind: hcs.ExitPanic}, hcs.ExitPanic),
			"crash":      end(hcs.Exit{Kind: hcs.ExitVMMCrash}, hcs.ExitVMMCrash),
			"by another": end(hcs.Exit{Kind: hcs.ExitTerminated}, hcs.ExitVMMKilled),
			"a code":     end(hcs.Exit{Kind: hcs.ExitOther, Code: 0x80370109}, hcs.ExitOther),
		},
		GuestDial: func(t hcstest.T, s hcs.System, service hcs.ServiceID) net.Conn {
			for {
				m, ok := machines.Load(s.ID())
				if !ok {
					runtime.Gosched() // it has only just been started
					continue
				}
				c, err := m.(*hcstest.Machine).Dial(service)
				if err != nil {
					t.Fatalf("dial from the guest: %v", err)
				}
				return c
			}
		},
		Residue: func(hcstest.T) []string { return residue(mem, bench) },
	}
	hcstest.TestEngine(hcstest.Wrap(t), f)
	t.Run("Paths", func(t *testing.T) { // the column of the documentation
		file := filepath.Join("..", "..", "..", "docs", "hcs.md")
		hcstest.CheckTable(hcstest.Wrap(t), file, "computecore, on the stand-in", hcstest.Paths(hcstest.Wrap(t), f), *update)
	})
}

// residue lists what systems can leave: in the service, and in the engine.
func residue(mem *hcstest.Engine, bench *standin.Bench) []string {
	left := slices.Repeat([]string{"a system"}, mem.Systems())
	left = append(left, slices.Repeat([]string{"a handle"}, bench.Handles())...)
	for _, g := range ours() {
		left = append(left, "goroutine\n"+g)
	}
	return left
}

// ours are the goroutines that have an engine's code on their stack, without
// what differs between two of one kind.
func ours() []string {
	b := make([]byte, 4<<20)
	b = b[:runtime.Stack(b, true)]
	var out []string
	for g := range strings.SplitSeq(string(b), "\n\n") {
		if strings.Contains(g, "/computecore/") && strings.Contains(g, "computecore.(") && !strings.Contains(g, "_test.ours") {
			var calls []string
			for line := range strings.SplitSeq(g, "\n") {
				if !strings.HasPrefix(line, "\t") && !strings.HasPrefix(line, "goroutine ") {
					name, _, _ := strings.Cut(line, "(0x")
					calls = append(calls, name)
				}
			}
			out = append(out, strings.Join(calls, "\n"))
		}
	}
	return out
}
