//go:build linux

package hostfs

import (
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// until has a program of the host do something again and again until it is
// called.
func until(do func()) func() {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				do()
			}
		}
	})
	return func() { close(stop); wg.Wait() }
}

// A file that a program of the host puts where one is made does not become the
// client's.
func TestMknodRace(t *testing.T) {
	uid, gid, root := user()
	dir := t.TempDir()
	other := put(t, dir, "other", "")
	tree := open(t, Share{Path: dir})
	stop := until(func() {
		if unix.Link(other, dir+"/second") == nil {
			_ = unix.Rename(dir+"/second", dir+"/x")
		}
	})
	for range 500 {
		n, st, err := tree.Root().Mknod("x", 0o4711, Owner{UID: uid, GID: gid})
		if err == nil {
			if st.Mode&0o7777 != 0o4711 || root && st.Uid != uid {
				t.Errorf("mode %o of %d", st.Mode, st.Uid)
			}
			n.Unref()
		}
		_ = os.Remove(dir + "/x")
	}
	stop()
	if st := lstat(t, other); st.Mode&0o7777 != 0o644 || st.Uid != uint32(os.Getuid()) {
		t.Errorf("the other file has mode %o and is of %d", st.Mode&0o7777, st.Uid)
	}
}

// Nor does a folder.
func TestMkdirRace(t *testing.T) {
	uid, gid, root := user()
	dir := t.TempDir()
	other := mkdir(t, dir, "other")
	put(t, other, "f", "")
	tree := open(t, Share{Path: dir})
	stop := until(func() {
		_ = unix.Renameat2(unix.AT_FDCWD, other, unix.AT_FDCWD, dir+"/x", unix.RENAME_EXCHANGE)
	})
	made, deadline := 0, time.Now().Add(time.Minute)
	for i := 0; i < 1000 || made < 100 && time.Now().Before(deadline); i++ {
		n, st, err := tree.Root().Mkdir("x", 0o711, Owner{UID: uid, GID: gid})
		if err == nil {
			if st.Mode&0o7777 == 0o711 && (!root || st.Uid == uid) {
				made++
			}
			n.Unref()
		}
		_ = unix.Rmdir(dir + "/x")
	}
	stop()
	if made < 100 {
		t.Errorf("%d folders were made", made)
	}
	if _, err := os.Lstat(other + "/f"); err != nil { // it has the other name
		other = dir + "/x"
	}
	if st := lstat(t, other); st.Mode&0o7777 != 0o755 || st.Uid != uint32(os.Getuid()) {
		t.Errorf("the other folder has mode %o and is of %d", st.Mode&0o7777, st.Uid)
	}
}
