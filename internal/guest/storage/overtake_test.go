//go:build linux

package storage

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/hcsschema"
)

// fakeDisk makes the disk 2:7 of a made-up sysfs.
func fakeDisk(t *testing.T, sys, name, state string) (dir string) {
	t.Helper()
	dir = filepath.Join(sys, "bus/scsi/devices/0:0:2:7")
	err := errors.Join(os.MkdirAll(filepath.Join(dir, "block", name), 0o755), os.WriteFile(filepath.Join(dir, "state"), []byte(state+"\n"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

type loaderFunc func(...string) error

func (f loaderFunc) Insert(names ...string) error { return f(names...) }

// The disk that was there before goes while it is being mounted: the one that
// is meant gets another name.
func TestDiskGoes(t *testing.T) {
	for name, c := range map[string]struct {
		first func(*testing.T) string // the name of the disk that goes
		late  bool                    // after it has been looked at
	}{
		"without a node": {func(*testing.T) string { return "byre-none" }, false},
		"mounted": {func(t *testing.T) string {
			return filepath.Base(loop(t, image(t, "ext4", map[string]string{"f": "old"})))
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			at := inNamespace(t)
			sys := fakeSys(t)
			old := c.first(t)
			dir := fakeDisk(t, sys, old, "running")
			next := filepath.Base(loop(t, image(t, "ext4", map[string]string{"f": "new"})))
			change := func() error {
				err := os.Rename(filepath.Join(dir, "block", old), filepath.Join(dir, "block", next))
				if errors.Is(err, os.ErrNotExist) {
					return nil // it was changed before
				}
				return err
			}
			changed := make(chan error, 1)
			if c.late {
				changed <- nil
			} else {
				size := filepath.Join(dir, "block", old, "size")
				if err := unix.Mkfifo(size, 0o600); err != nil {
					t.Fatal(err)
				}
				go func() {
					w, err := os.OpenFile(size, os.O_WRONLY, 0) // waits for who reads it
					if err == nil {
						err = errors.Join(os.Remove(size), w.Close(), change())
					}
					changed <- err
				}()
			}
			d := hcsschema.LCOWMappedVirtualDisk{MountPath: at, Controller: 2, Lun: 7, ReadOnly: true}
			err := AddDisk(d, loaderFunc(func(...string) error {
				if c.late {
					return change()
				}
				return nil
			}))
			if err := errors.Join(err, <-changed); err != nil {
				t.Fatal(err)
			}
			if got := content(t, at+"/f"); got != "new" {
				t.Errorf("got the disk with %q", got)
			}
			if err := RemoveDisk(d); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(at); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the mount point is left: %v", err)
			}
		})
	}
}

// A disk that the kernel has given up is forgotten, and looked for again.
func TestDeadDisk(t *testing.T) {
	for _, state := range []string{"offline", "transport-offline", "cancel", "deleted"} {
		t.Run(state, func(t *testing.T) {
			sys := fakeSys(t)
			dir := fakeDisk(t, sys, "sdq", state)
			scan := filepath.Join(sys, "class/scsi_host/host0/scan")
			if err := errors.Join(os.MkdirAll(filepath.Dir(scan), 0o755), os.WriteFile(scan, nil, 0o600)); err != nil {
				t.Fatal(err)
			}
			if dev, err := findDisk(soon(), 2, 7); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("got %s, %v, want %v", dev, err, os.ErrDeadlineExceeded)
			}
			for name, want := range map[string]string{filepath.Join(dir, "delete"): "1\n", scan: "0 2 7"} {
				if b, err := os.ReadFile(name); string(b) != want {
					t.Errorf("%s got %q, %v", name, b, err)
				}
			}
			fakeDisk(t, sys, "sdq", "running")
			if dev, err := findDisk(soon(), 2, 7); dev != "/dev/sdq" || err != nil {
				t.Errorf("got %s, %v", dev, err)
			}
		})
	}
}

// The disk that was there before goes before it was set up: the controller is
// asked to look once more.
func TestFindDiskAgain(t *testing.T) {
	sys := fakeSys(t)
	dir := filepath.Join(sys, "bus/scsi/devices/0:0:2:7")
	scan := filepath.Join(sys, "class/scsi_host/host0/scan")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.MkdirAll(filepath.Dir(scan), 0o755), os.WriteFile(scan, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	asked := func() error {
		return WaitDevice(far(), func() (bool, error) {
			b, err := os.ReadFile(scan)
			return err != nil || len(b) > 0, err
		})
	}
	done := make(chan error, 1)
	go func() {
		err := errors.Join(asked(), os.Truncate(scan, 0), os.Remove(dir))
		if err == nil {
			err = errors.Join(asked(), os.MkdirAll(filepath.Join(dir, "block/sdq"), 0o755))
		}
		done <- err
	}()
	dev, err := findDisk(far(), 2, 7)
	if dev != "/dev/sdq" || err != nil {
		t.Errorf("got %s, %v", dev, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
