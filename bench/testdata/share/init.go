//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// modules are what a file system of QEMU's own server needs, in order.
var modules = []string{
	"virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci",
	"netfs", "fscache", "9pnet", "9p", "9pnet_virtio",
}

// asInit is the program as the first process of a VM: it mounts the share of
// QEMU's server with what byre's agent says to the kernel of its own, and, for
// each line of the console, measures there in a process of its own, as the
// agent starts one: on which of the processors one runs makes much of a
// difference, and it stays there.
func asInit() error {
	at := make(map[string]string)
	err := filepath.WalkDir("/lib/modules", func(p string, _ fs.DirEntry, err error) error {
		at[filepath.Base(p)] = p
		return err
	})
	if err != nil {
		return err
	}
	for _, m := range modules {
		if err := insert(at[m+".ko"]); err != nil {
			return fmt.Errorf("module %s: %w", m, err)
		}
	}
	if err := errors.Join(
		os.MkdirAll("/proc", 0o755), unix.Mount("proc", "/proc", "proc", 0, ""),
		os.MkdirAll("/share", 0o755),
		unix.Mount("share", "/share", "9p", 0, "trans=virtio,version=9p2000.L,msize=524288,cache=mmap"),
	); err != nil {
		return err
	}
	fmt.Println("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		cmd := exec.Command("/proc/self/exe", "meta", "/share", lines.Text())
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
		if err := cmd.Run(); err != nil {
			return err
		}
		fmt.Println("done")
	}
	return nil
}

func insert(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != unix.EEXIST {
		return err
	}
	return nil
}
