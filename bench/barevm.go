//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/cavaliergopher/cpio"

	"github.com/byrevm/byre/internal/engine/qemu/qmp"
	"github.com/byrevm/byre/internal/place"
	"github.com/byrevm/byre/uvm"
)

// A bareVM is a QEMU of its own, with the kernel and modules of the boot files
// and testdata/hotplug, which tells of the devices that appear.
type bareVM struct {
	cmd   *exec.Cmd
	dir   string
	qmp   *qmp.Client
	lines *bufio.Scanner
}

func newBareVM(ctx context.Context, s setup) (_ *bareVM, err error) {
	v := &bareVM{}
	if v.dir, err = os.MkdirTemp("", "byre-bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			v.close()
		}
	}()
	initrd, socket := filepath.Join(v.dir, "initrd"), filepath.Join(v.dir, "qmp")
	if err := withProgram(ctx, s, "./bench/testdata/hotplug", initrd); err != nil {
		return nil, err
	}
	kernel := filepath.Join(s.boot, "vmlinux")
	if _, err := os.Stat(kernel); err != nil {
		kernel = filepath.Join(s.boot, "kernel")
	}
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", "q35,memory-backend=ram,sata=off,smbus=off,smm=off,usb=off,vmport=off", "-bios", "qboot.rom", "-accel", accel(), "-smp", "2",
		"-m", "size=512M,slots=64,maxmem=66048M", "-object", "memory-backend-memfd,id=ram,size=512M,share=on",
		"-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 panic=-1 quiet rdinit=/bench-init",
		"-device", "virtio-scsi-pci,id=scsi,bus=pcie.0,addr=0x3,disable-legacy=on",
		"-qmp", "unix:" + socket + ",server=on,wait=off", "-serial", "stdio",
	}
	// As many bridges as the other VM has: for each device that is plugged in
	// the guest asks the firmware of every slot.
	for i := range place.VPMemBridges(uvm.MaxVPMEMCount) + place.NetworkBridges {
		args = append(args, "-device", fmt.Sprintf("pci-bridge,id=slots%d,bus=pcie.0,addr=%#x,chassis_nr=%d,shpc=off", i, 0x10+i, 0x10+i))
	}
	args = append(args, "-device", "pci-testdev,bus=slots0,addr=0x0,membar=512K") // else the kernel gives it no addresses
	v.cmd = exec.CommandContext(ctx, "qemu-system-x86_64", args...)
	out, err := v.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	v.lines = bufio.NewScanner(out)
	if err := v.cmd.Start(); err != nil {
		return nil, err
	}
	if err := v.until("ready"); err != nil {
		return nil, err
	}
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return nil, err
	}
	v.qmp, err = qmp.New(ctx, conn, func(qmp.Event) {})
	return v, err
}

// withProgram writes the initrd of the boot files with a program as another
// first process.
func withProgram(ctx context.Context, s setup, program, file string) error {
	built := file + ".init"
	if err := buildProgram(ctx, program, built); err != nil {
		return err
	}
	code, err := os.ReadFile(built)
	if err != nil {
		return err
	}
	base, err := os.ReadFile(filepath.Join(s.boot, "initrd.img"))
	if err != nil {
		return err
	}
	b := bytes.NewBuffer(append(base, make([]byte, -len(base)&3)...)) // archives that follow each other are unpacked in turn
	w := cpio.NewWriter(b)
	if err := w.WriteHeader(&cpio.Header{Name: "bench-init", Mode: cpio.TypeReg | 0o755, Size: int64(len(code)), Links: 1}); err != nil {
		return err
	}
	if _, err := w.Write(code); err != nil {
		return err
	}
	return errors.Join(w.Close(), os.WriteFile(file, b.Bytes(), 0o600))
}

func buildProgram(ctx context.Context, program, file string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", file, program)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// A command is one of QMP.
type command struct {
	name string
	args map[string]any
}

// plug runs commands and returns how long it took until the guest told of a
// device with that prefix.
func (v *bareVM) plug(ctx context.Context, device string, commands ...command) (float64, error) {
	began := time.Now()
	for _, c := range commands {
		if err := v.qmp.Execute(ctx, c.name, c.args, nil); err != nil {
			return 0, err
		}
	}
	err := v.until("event " + device)
	return time.Since(began).Seconds(), err
}

// until reads the console up to a line with that beginning.
func (v *bareVM) until(prefix string) error {
	limit := time.AfterFunc(2*time.Minute, func() { v.cmd.Process.Kill() })
	defer limit.Stop()
	var seen []string
	for v.lines.Scan() {
		if strings.HasPrefix(v.lines.Text(), prefix) {
			return nil
		}
		seen = append(seen, v.lines.Text())
	}
	return errors.New("the console ended:\n" + strings.Join(seen, "\n"))
}

func (v *bareVM) close() {
	if v.qmp != nil {
		v.qmp.Close()
	}
	if v.cmd != nil && v.cmd.Process != nil {
		v.cmd.Process.Kill()
		v.cmd.Wait()
	}
	os.RemoveAll(v.dir)
}
