package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/Microsoft/hcsshim/ext4/tar2ext4"

	"github.com/byrevm/byre/hcs/hcstest"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/engine"
)

const engineName = "Host Compute Service"

// bindAll lets SYSTEM and Administrators listen for VMs and dial to them.
const bindAll = "D:P(A;;FA;;;SY)(A;;FA;;;BA)"

// newFixture returns the engine of this host and what the suite has to know of
// it. Its VMs have firmware that finds nothing to boot from. Of the ways in
// which a VM can end by itself none can be brought about without a guest.
func newFixture() (f hcstest.Fixture, clean func() error, err error) {
	var files atomic.Int64
	image := func(t hcstest.T) string {
		p := filepath.Join(t.TempDir(), fmt.Sprintf("%d.vhd", files.Add(1)))
		err := errors.Join(os.WriteFile(p, nil, 0o600), os.Truncate(p, 4<<20))
		if err == nil {
			err = tar2ext4.ConvertFileToVhd(p)
		}
		if err != nil {
			t.Fatalf("making a disk: %v", err)
		}
		return p
	}
	return hcstest.Fixture{
		Engine: engine.New(engine.Config{}),
		System: func(hcstest.T) *hcsschema.ComputeSystem {
			return &hcsschema.ComputeSystem{
				Owner:                             "byre selftest",
				SchemaVersion:                     hcsschema.SchemaV21(),
				ShouldTerminateOnLastHandleClosed: true,
				VirtualMachine: &hcsschema.VirtualMachine{
					Chipset: &hcsschema.Chipset{Uefi: &hcsschema.Uefi{}},
					ComputeTopology: &hcsschema.Topology{
						Memory:    &hcsschema.Memory2{SizeInMB: 256, AllowOvercommit: true},
						Processor: &hcsschema.Processor2{Count: 1},
					},
					Devices: &hcsschema.Devices{
						Scsi:        map[string]hcsschema.Scsi{"0": {}},
						VirtualPMem: &hcsschema.VirtualPMemController{MaximumCount: 2},
						Plan9:       &hcsschema.Plan9{},
						HvSocket: &hcsschema.HvSocket2{HvSocketConfig: &hcsschema.HvSocketSystemConfig{
							DefaultBindSecurityDescriptor: bindAll, DefaultConnectSecurityDescriptor: bindAll,
						}},
					},
				},
			}
		},
		Disk: image,
		PMem: func(t hcstest.T) hcsschema.VirtualPMemDevice {
			return hcsschema.VirtualPMemDevice{HostPath: image(t), ReadOnly: true, ImageFormat: hcsschema.ImageFormatVhd1}
		},
		Folder:  func(t hcstest.T) string { return t.TempDir() },
		Refused: map[string]string{"Toaster": `{"VirtualMachine":{"Devices":{"Toaster":{}}}}`},
	}, func() error { return nil }, nil
}
