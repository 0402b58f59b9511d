//go:build linux

package hostfs

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestRelease(t *testing.T) {
	dir := t.TempDir()
	p := put(t, mkdir(t, dir, "d"), "f", "text")
	files := NewFiles(4)
	tree := openAs(t, files, Share{Path: dir})
	d, f := at(t, tree, "d"), at(t, tree, "d", "f")
	if tree.Root().Release() {
		t.Error("the folder of the tree gave its descriptor up")
	}
	if !f.Pin() {
		t.Fatal("no descriptor")
	}
	if f.Release() {
		t.Error("a descriptor that is needed was given up")
	}
	f.Unpin()
	held := files.Held()
	if !f.Release() || f.Release() || f.Pin() {
		t.Error("the descriptor was not given up once")
	}
	if n := files.Held(); n != held-1 {
		t.Errorf("%d descriptors are held, want %d", n, held-1)
	}
	_, err := f.Stat()
	want(t, "stat", err, ErrReleased)
	_, _, err = f.Open(0)
	want(t, "open", err, unix.ESTALE)
	for range 2 { // the second has nothing to do
		if err := f.Reacquire(d, "f"); err != nil {
			t.Fatal(err)
		}
	}
	if f.Release() {
		t.Error("a node that was got back is not pinned")
	}
	f.Unpin()
	if f.Release() {
		t.Error("a node that was got back twice is not pinned twice")
	}
	f.Unpin()
	if st, err := f.Stat(); st != lstat(t, p) {
		t.Errorf("got %+v, %v", st, err)
	}

	// A file that is open needs it not.
	file := openFile(t, f, unix.O_RDWR)
	if !f.Release() {
		t.Error("the descriptor was not given up")
	}
	if n, err := file.WriteAt([]byte("x"), 0, DropPrivilege); n != 1 {
		t.Errorf("write: %v", err)
	}
	locks := Locks[int]{Max: 1}
	locks.Lock()
	want(t, "lock", locks.Set(file, 1, unix.Flock_t{Type: unix.F_WRLCK}), nil)
	locks.Close(file)
	locks.Unlock()

	// The name leads elsewhere.
	if err := os.Rename(p, p+"2"); err != nil {
		t.Fatal(err)
	}
	want(t, "nothing there", f.Reacquire(d, "f"), unix.ESTALE)
	put(t, dir+"/d", "f", "other")
	want(t, "another file there", f.Reacquire(d, "f"), unix.ESTALE)
	want(t, "a path", f.Reacquire(tree.Root(), "d/f2"), unix.EINVAL)
	want(t, "another tree", f.Reacquire(at(t, open(t, Share{Path: dir})), "f"), unix.EXDEV)
	if f.Pin() {
		t.Error("another file was taken")
	}
	if err := f.Reacquire(d, "f2"); err != nil {
		t.Error(err)
	}
	f.Unpin()

	// The folder gave its own up.
	if !f.Release() || !d.Release() {
		t.Error("the descriptors were not given up")
	}
	want(t, "without the folder", f.Reacquire(d, "f2"), ErrReleased)
	if err := d.Reacquire(tree.Root(), "d"); err != nil {
		t.Error(err)
	}
	want(t, "after that", f.Reacquire(d, "f2"), nil)
	f.Unpin()
	d.Unpin()
	f.Release()
	at(t, tree, "d")
	want(t, "no descriptor left", f.Reacquire(d, "f2"), unix.ENFILE)
}

// On a file system that does not say when files came to be, what has the number
// of another file later is at least not taken for it if it is of another kind: a
// FIFO that is opened as if it were a regular file would keep the server waiting.
func TestReacquireKind(t *testing.T) {
	dir := t.TempDir()
	p := put(t, dir, "f", "text")
	tree := open(t, Share{Path: dir})
	f := at(t, tree, "f")
	if !f.Release() {
		t.Fatal("the descriptor was not given up")
	}
	if err := errors.Join(os.Remove(p), unix.Mkfifo(p, 0o600)); err != nil {
		t.Fatal(err)
	}
	fifo := at(t, tree, "f").ID()
	f.id.Ino, f.id.Btime = fifo.Ino, fifo.Btime // as if it were so
	want(t, "a FIFO with the number of a file", f.Reacquire(tree.Root(), "f"), unix.ESTALE)
}

// Some use a node while others give its descriptor up, get it back, and move
// the file away: who has it has that file and no other.
func TestReleaseRace(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "f", "")
	put(t, dir, "other", "")
	tree := open(t, Share{Path: dir})
	n := at(t, tree, "f")
	var wg, host sync.WaitGroup
	stop := make(chan struct{})
	host.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				unix.Renameat2(unix.AT_FDCWD, filepath.Join(dir, "f"), unix.AT_FDCWD, filepath.Join(dir, "other"), unix.RENAME_EXCHANGE)
			}
		}
	})
	var used, stale, gone atomic.Int32
	deadline := time.Now().Add(time.Minute)
	for range 4 {
		wg.Go(func() {
			for i := 0; i < 5000 || min(used.Load(), stale.Load(), gone.Load()) < 10 && time.Now().Before(deadline); i++ {
				switch rand.IntN(3) {
				case 0:
					if n.Release() {
						gone.Add(1)
					}
				case 1:
					switch err := n.Reacquire(tree.Root(), "f"); {
					case err == nil:
						n.Unpin()
					case errors.Is(err, unix.ESTALE):
						stale.Add(1)
					default:
						t.Errorf("reacquire: %v", err)
					}
				case 2:
					if st, err := n.Stat(); err == nil {
						if used.Add(1); st.Ino != n.ID().Ino {
							t.Errorf("file %d is file %d", n.ID().Ino, st.Ino)
						}
					} else if !errors.Is(err, ErrReleased) {
						t.Errorf("stat: %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	host.Wait()
	if min(used.Load(), stale.Load(), gone.Load()) < 10 {
		t.Errorf("used %d times, stale %d times, given up %d times", used.Load(), stale.Load(), gone.Load())
	}
}
