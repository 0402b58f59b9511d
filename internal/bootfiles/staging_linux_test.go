package bootfiles

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFullDisk runs out of space at each file.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	in := testInput(t)
	for _, kib := range []int{4, 16, 40, 64, 120, 400} {
		t.Run(fmt.Sprintf("%d KiB", kib), func(t *testing.T) {
			parent := t.TempDir()
			if err := unix.Mount("tmpfs", parent, "tmpfs", 0, fmt.Sprintf("size=%dk", kib)); err != nil {
				t.Skipf("mounting: %v", err)
			}
			defer unix.Unmount(parent, unix.MNT_DETACH)
			_, err := Build(t.Context(), filepath.Join(parent, "new", "boot"), in)
			if !errors.Is(err, unix.ENOSPC) {
				t.Errorf("got %v, want %v", err, unix.ENOSPC)
			}
			checkNothing(t, parent)
		})
	}
}

// TestStale removes what a killed process left, and nothing that is in use.
func TestStale(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "boot")
	stale := filepath.Join(parent, stagingPrefix(dir)+"1")
	used := filepath.Join(parent, stagingPrefix(dir)+"2")
	other := filepath.Join(parent, ".boots.new-3")
	for _, d := range []string{stale, used, other} {
		writeFile(t, filepath.Join(d, "kernel"), nil)
	}
	lock, err := lockDir(used)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	mustBuild(t, dir, testInput(t))
	for d, want := range map[string]bool{stale: false, used: true, other: true} {
		if _, err := os.Stat(d); (err == nil) != want {
			t.Errorf("%s is there: got %v, want %v", d, err == nil, want)
		}
	}
}

func TestReadOnlyParent(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	parent := t.TempDir()
	if err := unix.Mount("tmpfs", parent, "tmpfs", unix.MS_RDONLY, ""); err != nil {
		t.Skipf("mounting: %v", err)
	}
	defer unix.Unmount(parent, unix.MNT_DETACH)
	if _, err := Build(t.Context(), filepath.Join(parent, "boot"), testInput(t)); !errors.Is(err, unix.EROFS) {
		t.Errorf("got %v, want %v", err, unix.EROFS)
	}
}

// TestUmask makes the same files under any umask.
func TestUmask(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	dir := filepath.Join(t.TempDir(), "boot")
	mustBuild(t, dir, testInput(t))
	for name, want := range map[string]os.FileMode{".": 0o755, "kernel": 0o644, manifestName: 0o644} {
		if fi, err := os.Stat(filepath.Join(dir, name)); err != nil || fi.Mode().Perm() != want {
			t.Errorf("%s: got %v, %v, want %v", name, fi.Mode(), err, want)
		}
	}
}
