//go:build linux

package test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/hns"
	"github.com/byrevm/byre/test/stress"
	"github.com/byrevm/byre/uvm"
)

// TestStress adds and removes things of every kind from 50 goroutines, and ends
// the VM at a random moment: by its monitor, or by its kernel. -stress.for=1m
// makes it longer; -stress.seed repeats one.
func TestStress(t *testing.T) {
	begin(t)
	for _, x := range []struct {
		name string
		kind hcs.ExitKind
		end  func(context.Context, *testing.T, *uvm.UtilityVM)
	}{
		{"monitor killed", hcs.ExitVMMKilled, func(_ context.Context, t *testing.T, vm *uvm.UtilityVM) {
			if err := syscall.Kill(vmm(t, vm.ID()), syscall.SIGKILL); err != nil {
				t.Error(err)
			}
		}},
		{"kernel panics", hcs.ExitPanic, func(ctx context.Context, t *testing.T, vm *uvm.UtilityVM) {
			p, err := vm.CreateProcess(ctx, &hcsschema.ProcessParameters{CommandArgs: []string{"/bin/sh", "-c", "echo c >/proc/sysrq-trigger"}})
			if err == nil { // else its answer was not in time
				p.Close()
			}
		}},
	} {
		step(t, x.name, func(ctx context.Context, t *testing.T) {
			n := session(t)
			o := shellOptions(t)
			o.Network = n
			vm := boot(ctx, t, o)
			l := stress.Load{Workers: 50, For: 8 * time.Second}
			images := newImages(t, 24)
			l.Disks, l.Layers = images[:12], images[12:]
			for i := range 8 {
				l.Folders = append(l.Folders, t.TempDir())
				l.Pipes = append(l.Pipes, listener(t, i))
			}
			for range 2 {
				id, made := namespace(ctx, t, n, make([]hns.HNSEndpoint, 1)...)
				if err := vm.AddNetNS(ctx, id); err != nil {
					t.Fatal(err)
				}
				l.Namespaces, l.Endpoints = append(l.Namespaces, id), append(l.Endpoints, made...)
			}
			r := stress.New(t, vm, l)
			r.Work(ctx)
			r.Again(ctx)
			says(ctx, t, vm, "ls /sys/block | grep -c sd; ls -d /run/layers/* /run/mounts/* 2>/dev/null | wc -l; grep -c ' /run/mounts/' /proc/mounts; ls /sys/bus/virtio/drivers/virtio_net 2>/dev/null | grep -c ^virtio; true", "0\n0\n0\n0\n")
			r.Kill(ctx, func() { x.end(ctx, t, vm) })
			var exit *hcs.Exit
			if err := vm.ExitError(); !errors.As(err, &exit) || exit.Kind != x.kind {
				t.Errorf("got %v, want %v", err, x.kind)
			}
		})
	}
}

// listener is a socket of the host on which nobody accepts.
func listener(t *testing.T, i int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), fmt.Sprint("s", i))
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return path
}
