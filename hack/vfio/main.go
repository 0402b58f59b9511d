//go:build linux

// Command vfio gives PCI devices of this host to a VM and takes them back. It
// runs in the outer VM of hack/vfio.sh, which has an IOMMU, and to spare a NIC
// of two functions and a disk that can have virtual functions.
//
//	vfio NIC DISK BOOTFILES
//	vfio NIC DISK BOOTFILES own   has them and waits to be killed
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/byrevm/byre/uvm"
)

func main() {
	log := watcher{make(chan string, 10)}
	slog.SetDefault(slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	if err := start(ctx, log, os.Args[1:]); err != nil {
		fmt.Println("FAIL:", err)
		os.Exit(1)
	}
	fmt.Println("PASS")
}

func start(ctx context.Context, log watcher, args []string) error {
	if err := os.Setenv("BYRE_BOOT_FILES", args[2]); err != nil {
		return err
	}
	h := host{
		nic:  []string{args[0], strings.TrimSuffix(args[0], "0") + "1"},
		disk: args[1],
	}
	if len(args) > 3 {
		return own(ctx, h)
	}
	return run(ctx, log, h)
}

func run(ctx context.Context, log watcher, h host) (err error) {
	if err := h.prepare(); err != nil {
		return err
	}
	if err := killOwner(ctx, h); err != nil {
		return err
	}
	vm, err := uvm.CreateLCOW(ctx, options("vfio"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, vm.Close()) }()
	if err := h.want("after its owner was killed and a VM made"); err != nil {
		return err
	}
	if err := vm.Start(ctx); err != nil {
		var s *uvm.StartError
		if errors.As(err, &s) && s.Exit != nil {
			fmt.Println(strings.Join(s.Exit.Log, "\n"))
		}
		return err
	}
	if err := refusals(ctx, vm, h); err != nil {
		return err
	}
	for range 2 {
		if err := giveAndTake(ctx, vm, log, h); err != nil {
			return err
		}
	}
	// The end of the VM gives back what it has.
	for _, d := range h.devices() {
		if _, err := vm.AssignDevice(ctx, d.document); err != nil {
			return err
		}
	}
	if err := h.want("assigned", h.spare()...); err != nil {
		return err
	}
	if err := vm.Close(); err != nil {
		return err
	}
	return h.want("after the end")
}

func options(id string) *uvm.OptionsLCOW {
	o := uvm.NewDefaultOptionsLCOW(id, "test")
	o.RootFSFile, o.PreferredRootFSType = uvm.InitrdFile, uvm.PreferredRootFSTypeInitRd
	o.MemorySizeInMB, o.ProcessorCount, o.VPCIEnabled, o.VPMemDeviceCount = 192, 1, true, 0
	return o
}

// A watcher shows the log, and hands over what it says of devices.
type watcher struct{ appeared chan string }

func (w watcher) Write(b []byte) (int, error) {
	if strings.Contains(string(b), "PCI device appeared") {
		w.appeared <- string(b)
	}
	return os.Stdout.Write(b)
}
