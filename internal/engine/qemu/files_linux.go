package qemu

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/place"
)

// modulesImage is the initrd that loads a stock kernel's modules and switches
// to the root file system. It lies beside a kernel that needs it.
const modulesImage = "modules.img"

// openDisk opens a file or block device, in no other mode than was asked for.
func openDisk(path string, readOnly bool) (*os.File, fs.FileInfo, error) {
	flags := os.O_RDWR
	if readOnly {
		flags = os.O_RDONLY
	}
	// Without waiting, should it be a pipe.
	f, err := os.OpenFile(path, flags|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() && !isBlockDevice(fi) {
		err = fmt.Errorf("%s is neither a file nor a block device", path)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, fi, nil
}

func isBlockDevice(fi fs.FileInfo) bool {
	return fi.Mode()&fs.ModeDevice != 0 && fi.Mode()&fs.ModeCharDevice == 0
}

// openRegular opens a file for reading.
func openRegular(path string) (*os.File, fs.FileInfo, error) {
	f, fi, err := openDisk(path, true)
	if err == nil && !fi.Mode().IsRegular() {
		f.Close()
		return nil, nil, fmt.Errorf("%s is not a regular file", path)
	}
	return f, fi, err
}

// bootFiles are the open files that a machine boots from; initrd may be nil.
type bootFiles struct {
	kernel, initrd *os.File
}

// openBoot opens them. It adds the initrd with the modules, which the
// document does not name, where the root is persistent memory and one lies
// beside the kernel.
func openBoot(m *machine) (b bootFiles, err error) {
	if m.boot == nil {
		return b, nil
	}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	if b.kernel, err = openBootFile("kernel", m.boot.kernel); err != nil {
		return b, err
	}
	if !isKernel(b.kernel) {
		return b, fmt.Errorf("%s is not a Linux kernel: neither a vmlinux nor a bzImage", m.boot.kernel)
	}
	if m.boot.uefi && !isUEFIProgram(b.kernel) {
		return b, fmt.Errorf("%s is not a program for UEFI: a bzImage is, a vmlinux is not", m.boot.kernel)
	}
	initrd := m.boot.initrd
	if m.bootsFromPMem() {
		beside := filepath.Join(filepath.Dir(m.boot.kernel), modulesImage)
		if _, err := os.Lstat(beside); err == nil {
			initrd = beside
		} else if !errors.Is(err, fs.ErrNotExist) {
			return b, fmt.Errorf("looking for %s: %w", modulesImage, err)
		}
	}
	if initrd != "" {
		if b.initrd, err = openBootFile("initrd", initrd); err != nil {
			return b, err
		}
	}
	return b, checkPlaces(filepath.Dir(cmp.Or(initrd, m.boot.kernel)))
}

// manifest describes a folder of boot files that byre has made.
const manifest = "manifest.json"

// checkPlaces refuses the boot files of a byre whose devices are elsewhere.
// Those of others, and of a byre that did not write it down, are tried.
func checkPlaces(dir string) error {
	f, _, err := openRegular(filepath.Join(dir, manifest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking at the boot files: %w", err)
	}
	defer f.Close()
	var m struct {
		Places int `json:"places"`
	}
	if err := json.NewDecoder(io.LimitReader(f, 1<<20)).Decode(&m); err != nil {
		return fmt.Errorf("looking at the boot files: %s: %w", f.Name(), err)
	}
	if m.Places != 0 && m.Places != place.Version {
		return fmt.Errorf("boot files in %s were made by another byre (places %d, this one has %d): make them again (byre boot build)", dir, m.Places, place.Version)
	}
	return nil
}

func openBootFile(what, path string) (*os.File, error) {
	f, fi, err := openRegular(path)
	if err == nil && fi.Size() == 0 {
		f.Close()
		err = fmt.Errorf("%s is empty", path)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the %s: %w", what, err)
	}
	return f, nil
}

// isKernel looks for the signature of an ELF file or of the Linux boot
// protocol.
func isKernel(f *os.File) bool {
	var b [0x206]byte
	n, err := f.ReadAt(b[:], 0)
	return bytes.HasPrefix(b[:n], []byte("\x7fELF")) || err == nil && string(b[0x202:]) == "HdrS"
}

func (b *bootFiles) close() {
	for _, f := range []*os.File{b.kernel, b.initrd} {
		if f != nil {
			f.Close()
		}
	}
}

// readable returns f, or a sealed copy of its first size bytes in memory if QEMU's
// user may not open f by the path of its descriptor. The caller closes both.
func readable(f *os.File, size int64, c *syscall.Credential) (*os.File, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if readableBy(fi, c) {
		return f, nil
	}
	// A copy takes memory that nothing counts against the system.
	if _, available, err := hostMemory(); err != nil || size/mib > available/2 {
		return nil, fmt.Errorf("QEMU's user may not read %s (mode %v), which is too large to copy", f.Name(), fi.Mode())
	}
	fd, err := unix.MemfdCreate(filepath.Base(f.Name()), unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("copying %s: %w", f.Name(), err)
	}
	m := os.NewFile(uintptr(fd), f.Name())
	_, err = io.Copy(m, io.NewSectionReader(f, 0, size))
	if err == nil {
		_, err = unix.FcntlInt(m.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_GROW|unix.F_SEAL_SHRINK)
	}
	if err != nil {
		m.Close()
		return nil, fmt.Errorf("copying %s: %w", f.Name(), err)
	}
	return m, nil
}
