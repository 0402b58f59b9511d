//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"

	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/uvm"
)

// own makes a VM whose document has the devices.
func own(ctx context.Context, h host) error {
	h.virtual = []string{link(h.disk, "virtfn0"), link(h.disk, "virtfn1")}
	devices := make(map[string]hcsschema.VirtualPciDevice)
	for slot, d := range h.devices() {
		devices[fmt.Sprintf("99999999-0000-4000-8000-%012d", slot)] = d.document
	}
	b, err := json.Marshal(map[string]any{"VirtualMachine": map[string]any{"Devices": map[string]any{"VirtualPci": devices}}})
	if err != nil {
		return err
	}
	o := options("killed")
	o.AdditionHCSDocumentJSON = string(b)
	if _, err := uvm.CreateLCOW(ctx, o); err != nil {
		return err
	}
	fmt.Println("owned")
	select {}
}

// killOwner kills another process that has the devices. They do not come back
// by themselves.
func killOwner(ctx context.Context, h host) error {
	cmd := exec.CommandContext(ctx, os.Args[0], append(os.Args[1:], "own")...)
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
	if !owned {
		return fmt.Errorf("a VM whose document has the devices: %s", cmd.ProcessState)
	}
	return h.want("its owner killed", h.spare()...)
}
