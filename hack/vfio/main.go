//go:build linux

// Command vfio gives a PCI device of this host to a VM and takes it back. It
// runs in the outer VM of hack/vfio.sh, which has an IOMMU and a NIC to spare.
//
//	vfio ADDRESS BOOTFILES
//	vfio ADDRESS BOOTFILES own   has the device and waits to be killed
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/uvm"
)

func main() {
	log := watcher{make(chan string, 10)}
	slog.SetDefault(slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	do := run
	if len(os.Args) > 3 {
		do = own
	}
	if err := do(ctx, log, os.Args[1], os.Args[2]); err != nil {
		fmt.Println("FAIL:", err)
		os.Exit(1)
	}
	fmt.Println("PASS")
}

func run(ctx context.Context, log watcher, addr, boot string) (err error) {
	if err := os.Setenv("BYRE_BOOT_FILES", boot); err != nil {
		return err
	}
	before, err := state(addr)
	if err != nil {
		return err
	}
	fmt.Println("before:", before)
	if err := killOwner(ctx, addr, boot); err != nil {
		return err
	}
	vm, err := uvm.CreateLCOW(ctx, options("vfio"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, vm.Close()) }()
	if now, err := state(addr); err != nil || now != before {
		return fmt.Errorf("after its owner was killed and a VM made it is %s, %w; it was %s", now, err, before)
	}
	if err := vm.Start(ctx); err != nil {
		var s *uvm.StartError
		if errors.As(err, &s) && s.Exit != nil {
			fmt.Println(strings.Join(s.Exit.Log, "\n"))
		}
		return err
	}
	device := hcsschema.VirtualPciDevice{Functions: []hcsschema.VirtualPciFunction{{DeviceInstancePath: addr}}}
	for range 2 {
		d, err := vm.AssignDevice(ctx, device)
		if err != nil {
			return err
		}
		now, err := state(addr)
		if err != nil {
			return err
		}
		fmt.Println("assigned:", now)
		if !strings.HasPrefix(now, "vfio-pci ") {
			return fmt.Errorf("assigned, it is %s", now)
		}
		// The guest's log says what appeared.
		select {
		case line := <-log.appeared:
			for _, name := range []string{"vendor", "device"} {
				if want := name + "=" + read(addr, name); !strings.Contains(line, want) {
					return fmt.Errorf("the guest does not say %s: %s", want, line)
				}
			}
		case <-ctx.Done():
			return errors.New("the guest does not say what appeared")
		}
		if err := d.Release(ctx); err != nil {
			return err
		}
		after, err := state(addr)
		if err != nil {
			return err
		}
		fmt.Println("released:", after)
		if after != before {
			return fmt.Errorf("released, it is %s; it was %s", after, before)
		}
	}
	// The end of the VM gives back what it has.
	if _, err := vm.AssignDevice(ctx, device); err != nil {
		return err
	}
	if err := vm.Close(); err != nil {
		return err
	}
	if after, err := state(addr); err != nil || after != before {
		return fmt.Errorf("after the end it is %s, %w; it was %s", after, err, before)
	}
	return nil
}

func options(id string) *uvm.OptionsLCOW {
	o := uvm.NewDefaultOptionsLCOW(id, "test")
	o.RootFSFile, o.PreferredRootFSType = uvm.InitrdFile, uvm.PreferredRootFSTypeInitRd
	o.MemorySizeInMB, o.ProcessorCount, o.VPCIEnabled, o.VPMemDeviceCount = 192, 1, true, 0
	return o
}

// own makes a VM whose document has the device.
func own(ctx context.Context, _ watcher, addr, boot string) error {
	if err := os.Setenv("BYRE_BOOT_FILES", boot); err != nil {
		return err
	}
	o := options("killed")
	o.AdditionHCSDocumentJSON = fmt.Sprintf(`{"VirtualMachine":{"Devices":{"VirtualPci":{"99999999-0000-4000-8000-000000000003":{"Functions":[{"DeviceInstancePath":%q}]}}}}}`, addr)
	if _, err := uvm.CreateLCOW(ctx, o); err != nil {
		return err
	}
	fmt.Println("owned")
	select {}
}

// killOwner kills another process that has the device. It does not come back
// by itself.
func killOwner(ctx context.Context, addr, boot string) error {
	cmd := exec.CommandContext(ctx, os.Args[0], addr, boot, "own")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	owned := false
	for s := bufio.NewScanner(out); !owned && s.Scan(); {
		fmt.Println("owner:", s.Text())
		owned = s.Text() == "owned"
	}
	cmd.Process.Kill()
	cmd.Wait() // it was killed
	now, err := state(addr)
	if err == nil && (!owned || !strings.HasPrefix(now, "vfio-pci ")) {
		err = fmt.Errorf("of a killed owner it is %s", now)
	}
	return err
}

// state tells the driver of a device and who may use its group.
func state(addr string) (string, error) {
	dir := filepath.Join("/sys/bus/pci/devices", addr)
	driver, err := os.Readlink(filepath.Join(dir, "driver"))
	if err != nil {
		return "", err
	}
	override, err := os.ReadFile(filepath.Join(dir, "driver_override"))
	if err != nil {
		return "", err
	}
	return filepath.Base(driver) + " " + strings.TrimSpace(string(override)), nil
}

func read(addr, name string) string {
	b, err := os.ReadFile(filepath.Join("/sys/bus/pci/devices", addr, name))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b))
}

// A watcher shows the log, and hands over what it says of devices.
type watcher struct{ appeared chan string }

func (w watcher) Write(b []byte) (int, error) {
	if strings.Contains(string(b), "PCI device appeared") {
		w.appeared <- string(b)
	}
	return os.Stdout.Write(b)
}
