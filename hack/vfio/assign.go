//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/uvm"
)

// refusals asks for what must not be given, and sees that it stays untouched.
func refusals(ctx context.Context, vm *uvm.UtilityVM, h host) error {
	part := func(other int) string {
		return fmt.Sprintf("group %s also has %s, which this host uses by driver virtio-pci", link(h.nic[other], "iommu_group"), h.nic[other])
	}
	mixed := functions(0, h.nic[0], h.virtual[1])
	for _, c := range []struct {
		document hcsschema.VirtualPciDevice
		is       error
		says     string
	}{
		{functions(0, h.nic[0]), hcs.ErrNotSupported, part(1)},
		{functions(0, h.nic[1]), hcs.ErrNotSupported, part(0)},
		{mixed, hcs.ErrNotSupported, part(1)},
		{functions(0, h.disk), hcs.ErrNotSupported, "virtual functions"},
		{functions(3, h.disk), hcs.ErrNotFound, "virtual function 3 of PCI device " + h.disk},
		{functions(1, h.nic...), hcs.ErrNotFound, "virtual function 1 of PCI device " + h.nic[0]},
	} {
		had := interfaces(h.nic[0]) + " " + interfaces(h.nic[1])
		_, err := vm.AssignDevice(ctx, c.document)
		if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
			return fmt.Errorf("assigning %v: %w, want %q", c.document, err, c.says)
		}
		fmt.Println("refused:", err)
		if has := interfaces(h.nic[0]) + " " + interfaces(h.nic[1]); has != had {
			return fmt.Errorf("refused, but touched: interfaces %q were %q", has, had)
		}
	}
	return h.want("refused")
}

// giveAndTake gives a guest every device, one after the other, and takes them
// back in the order in which they were given.
func giveAndTake(ctx context.Context, vm *uvm.UtilityVM, log watcher, h host) error {
	var given []string
	var all []*uvm.VPCIDevice
	for _, d := range h.devices() {
		v, err := vm.AssignDevice(ctx, d.document)
		if err != nil {
			return err
		}
		all, given = append(all, v), append(given, d.functions...)
		if err := h.want("assigned", given...); err != nil {
			return err
		}
		if err := log.wait(ctx, v.ID, d.functions); err != nil {
			return err
		}
	}
	for i, d := range h.devices() {
		if err := all[i].Release(ctx); err != nil {
			return err
		}
		given = given[len(d.functions):]
		if err := h.want("released", given...); err != nil {
			return err
		}
	}
	return nil
}

// logWait is how long the guest's log may take.
const logWait = 2 * time.Minute

// wait waits until the guest's log says what appeared: the functions of one
// device, in their order.
func (w watcher) wait(ctx context.Context, id string, functions []string) error {
	ctx, cancel := context.WithTimeout(ctx, logWait)
	defer cancel()
	for n, addr := range functions {
		select {
		case line := <-w.appeared:
			for _, want := range []string{
				"id=" + id,
				fmt.Sprintf(":00.%d ", n),
				"vendor=" + read(addr, "vendor"),
				"device=" + read(addr, "device"),
				"class=" + read(addr, "class"),
			} {
				if !strings.Contains(line, want) {
					return fmt.Errorf("the guest does not say %s: %s", want, line)
				}
			}
		case <-ctx.Done():
			return fmt.Errorf("the guest does not say that function %d appeared", n)
		}
	}
	return nil
}
