//go:build linux

package boot

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/guest/modules"
	"github.com/byrevm/byre/internal/guest/storage"
)

// newRoot is where the root disk is mounted before it becomes the root: a
// folder of modules.img.
const newRoot = "/root"

// rootWait is how long the root disk may take to appear.
const rootWait = 30 * time.Second

// isRootLoader tells whether this is modules.img: the initrd has no agent and
// the kernel was told of a root disk.
func isRootLoader(r rootSpec) bool {
	_, err := os.Lstat("/bin/gcs")
	return errors.Is(err, os.ErrNotExist) && r.device != "" && onInitramfs()
}

// loadRoot inserts the core modules, mounts the root disk, and executes its
// init with args in place of this program. It returns only an error. What went
// wrong with a module matters only if the disk cannot be mounted: whoever needs
// it tries again.
func loadRoot(r rootSpec, l *modules.Loader, args []string) error {
	modules := l.InsertAll(l.Index().Core)
	if err := scanSCSI(); err != nil {
		return errors.Join(modules, err)
	}
	if err := mountRoot(r, l); err != nil {
		return errors.Join(modules, fmt.Errorf("mounting the root disk %s: %w", r.device, err))
	}
	for _, m := range []string{"/dev", "/proc", "/sys"} {
		if err := unix.Mount(m, newRoot+m, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("moving %s: %w", m, err)
		}
	}
	removeInitramfs("/")
	if err := moveRoot(newRoot); err != nil {
		return err
	}
	argv := append([]string{r.init}, args...)
	return &os.PathError{Op: "exec", Path: r.init, Err: unix.Exec(r.init, argv, os.Environ())}
}

// scanSCSI finds the disks that were there at boot: scsi_mod is told not to
// look by itself.
func scanSCSI() error {
	hosts, err := filepath.Glob("/sys/class/scsi_host/host*/scan")
	for _, h := range hosts {
		err = errors.Join(err, os.WriteFile(h, []byte("- - -"), 0))
	}
	return err
}

func mountRoot(r rootSpec, l *modules.Loader) error {
	deadline := time.Now().Add(rootWait)
	dev := r.device
	if n, ok := strings.CutPrefix(dev, "/dev/pmem"); ok {
		number, err := strconv.ParseUint(n, 10, 32)
		if err != nil {
			return err
		}
		if dev, err = storage.FindVPMem(deadline, uint32(number)); err != nil {
			return err
		}
	}
	return storage.Mount(deadline, storage.MountRequest{
		Device: dev, Target: newRoot, ReadOnly: !r.writable,
		FSType: r.fstype, Data: r.flags, Modules: l,
	})
}

// removeInitramfs deletes what the initrd was unpacked to, so that its memory
// is free; it does not enter mounts.
func removeInitramfs(dir string) {
	var root unix.Stat_t
	if unix.Lstat(dir, &root) != nil {
		return
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		var st unix.Stat_t
		if unix.Lstat(name, &st) != nil || st.Dev != root.Dev {
			continue
		}
		if e.IsDir() {
			removeInitramfs(name)
			unix.Rmdir(name)
		} else {
			unix.Unlink(name)
		}
	}
}
