package uvm_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/byrevm/byre/cow"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/uvm"
)

// A container in a utility VM of its own: layer.ext4 is a disk image with a
// file system tree, scratch.ext4 one that may be written to.
func Example() {
	if err := run(context.Background(), "layer.ext4", "scratch.ext4"); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, layerFile, scratchFile string) error {
	vm, err := uvm.CreateLCOW(ctx, uvm.NewDefaultOptionsLCOW("", ""))
	if err != nil {
		return err
	}
	defer vm.Close()
	if err := vm.Start(ctx); err != nil {
		return err
	}

	const root = "/run/gcs/c/hello"
	layer, err := vm.AddVPMEM(ctx, layerFile)
	if err != nil {
		return err
	}
	scratch, err := vm.AddSCSI(ctx, scratchFile, root, false, uvm.VMAccessTypeIndividual)
	if err != nil {
		return err
	}
	if err := vm.CombineLayersLCOW(ctx, []string{layer}, scratch.UVMPath, root+"/rootfs"); err != nil {
		return err
	}

	hello := &specs.Process{Args: []string{"uname", "-snr"}, Env: []string{"PATH=/bin"}, Cwd: "/"}
	c, err := vm.CreateContainer(ctx, "hello", &hcsschema.LinuxHostedSystem{
		SchemaVersion: hcsschema.SchemaV21(),
		OciBundlePath: root,
		OciSpecification: &specs.Spec{
			Version: "1.0.2",
			Process: hello,
			Root:    &specs.Root{Path: root + "/rootfs"},
			Mounts:  []specs.Mount{{Destination: "/proc", Type: "proc", Source: "proc"}},
			Linux:   &specs.Linux{},
		},
	})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Start(ctx); err != nil {
		return err
	}
	init := &cow.Cmd{Host: c, Stdout: os.Stdout, Stderr: os.Stderr}
	if err := init.Run(ctx); err != nil {
		return fmt.Errorf("container: %w", err)
	}
	return c.Wait()
}
