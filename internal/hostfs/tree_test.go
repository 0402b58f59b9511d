//go:build linux

package hostfs

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOpenShare(t *testing.T) {
	dir := t.TempDir()
	p := put(t, dir, "f", "text")
	files := NewFiles(2)
	for what, sh := range map[string]Share{
		"no name":        {Path: dir},
		"no whole path":  {Name: "x", Path: "."},
		"a path as name": {Name: "x", Path: dir, AllowedNames: []string{"a/b"}},
		"above":          {Name: "x", Path: dir, AllowedNames: []string{".."}},
	} {
		if _, err := files.Open(sh); err == nil {
			t.Errorf("%s: a share", what)
		}
	}
	_, err := files.Open(Share{Name: "x", Path: p})
	want(t, "a file", err, unix.ENOTDIR)
	_, err = files.Open(Share{Name: "x", Path: filepath.Join(dir, "none")})
	want(t, "nothing", err, fs.ErrNotExist)
	a := openAs(t, files, Share{Path: dir})
	b, err := files.Open(Share{Name: "b", Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	_, err = files.Open(Share{Name: "x", Path: dir})
	want(t, "more than may be", err, unix.ENFILE)
	b.Close()
	b.Close()
	if n := files.Held(); n != 1 {
		t.Errorf("%d descriptors are held, want 1", n)
	}
	at(t, a, "f")
}

func TestEnd(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "f", "text")
	tree := open(t, Share{Path: dir})
	n := at(t, tree, "f")
	f := openFile(t, n, unix.O_RDWR)
	select {
	case <-tree.Ended():
		t.Fatal("it has ended")
	default:
	}
	if err := tree.Gone(); err != nil {
		t.Fatal(err)
	}
	tree.End()
	tree.End()
	<-tree.Ended()
	want(t, "gone", tree.Gone(), unix.ESTALE)
	_, err := n.Stat()
	want(t, "stat", err, unix.ESTALE)
	_, _, err = tree.Root().Lookup("f")
	want(t, "look-up", err, unix.ESTALE)
	_, _, err = n.Open(0)
	want(t, "open", err, unix.ESTALE)
	want(t, "change", n.SetAttr(f, Change{Set: SetMode}), unix.ESTALE)
	want(t, "sync", tree.Sync(), unix.ESTALE)
}

// A tree keeps the folder that was there when it was opened.
func TestFolderMoves(t *testing.T) {
	base := t.TempDir()
	dir := mkdir(t, base, "d")
	put(t, dir, "f", "old")
	tree := open(t, Share{Path: dir})
	if err := os.Rename(dir, dir+"2"); err != nil {
		t.Fatal(err)
	}
	put(t, mkdir(t, base, "d"), "f", "new")
	b := make([]byte, 10)
	n, err := openFile(t, at(t, tree, "f"), 0).ReadAt(b, 0)
	if string(b[:n]) != "old" {
		t.Errorf("got %q, %v", b[:n], err)
	}
}

// Files of other file systems below a folder have other numbers than its own.
func TestInode(t *testing.T) {
	tree := open(t, Share{Path: "/", ReadOnly: true})
	root, proc := lstat(t, "/"), lstat(t, "/proc")
	if root.Dev == proc.Dev {
		t.Fatal("/proc is no file system of its own")
	}
	if got := tree.Root().Ino(); got != root.Ino {
		t.Errorf("the folder has number %d, want %d", got, root.Ino)
	}
	if got := at(t, tree, "proc").Ino(); got == proc.Ino || got != tree.Inode(proc.Dev, proc.Ino) {
		t.Errorf("/proc has number %d", got)
	}
}

func TestSyncTree(t *testing.T) {
	if err := open(t, Share{Path: t.TempDir(), ReadOnly: true}).Sync(); err != nil {
		t.Error(err)
	}
}
