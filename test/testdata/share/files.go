//go:build linux

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// by9P tells whether the folder is mounted by 9P, which can less.
func by9P(dir string) bool {
	var sf unix.Statfs_t
	must("statfs", unix.Statfs(dir, &sf))
	return sf.Type == unix.V9FS_MAGIC
}

func inode(p string) uint64 {
	var st unix.Stat_t
	must("stat", unix.Lstat(p, &st))
	return st.Ino
}

// replaced makes files take the places of others.
func replaced(dir string) {
	in := func(n string) string { return filepath.Join(dir, n) }
	must("write", os.WriteFile(in("old"), []byte("old text"), 0o644))
	must("write", os.WriteFile(in("new"), []byte("new"), 0o644))
	old, err := os.OpenFile(in("old"), os.O_RDWR, 0)
	must("open", err)
	defer old.Close()
	ino := inode(in("new"))
	must("rename over a file", os.Rename(in("new"), in("old")))
	if b, err := os.ReadFile(in("old")); string(b) != "new" || err != nil || inode(in("old")) != ino {
		wrong("a file that took another's place: %q, %v", b, err)
	}
	b := make([]byte, 8)
	if _, err := old.ReadAt(b, 0); string(b) != "old text" || err != nil {
		wrong("a file whose name is another's: %q, %v", b, err)
	}
	must("link", os.Link(in("old"), in("link")))
	if inode(in("link")) != ino {
		wrong("two names of a file have inodes %d and %d", ino, inode(in("link")))
	}
	f, err := os.OpenFile(in("link"), os.O_WRONLY|os.O_TRUNC, 0)
	must("open that truncates", err)
	if fi, err := os.Stat(in("old")); err != nil || fi.Size() != 0 {
		wrong("a file that was truncated by its other name: %v", err)
	}
	_, err = f.WriteString("x")
	must("write", err)
	must("close", f.Close())
	if b, err := os.ReadFile(in("old")); string(b) != "x" || err != nil {
		wrong("a file that was truncated: %q, %v", b, err)
	}
	must("mkdir", os.MkdirAll(in("full/x"), 0o755))
	must("mkdir", os.Mkdir(in("empty"), 0o755))
	want("rename over a full folder", unix.Rename(in("empty"), in("full")), unix.ENOTEMPTY)
	want("rename of a file over a folder", unix.Rename(in("old"), in("empty")), unix.EISDIR)
	must("rename over an empty folder", unix.Rename(in("full"), in("empty")))
	if _, err := os.Stat(in("empty/x")); err != nil {
		wrong("a folder that took another's place: %v", err)
	}
}

// sparse is what 9P does not do.
func sparse(dir string) {
	if by9P(dir) {
		return
	}
	p := filepath.Join(dir, "f")
	f, err := os.Create(p)
	must("create", err)
	defer f.Close()
	const far = 8 << 20
	_, err = f.WriteAt([]byte("far"), far)
	must("write", err)
	for _, c := range []struct {
		whence    int
		from, got int64
	}{{unix.SEEK_DATA, 0, far}, {unix.SEEK_HOLE, 0, 0}, {unix.SEEK_HOLE, far, far + 3}} {
		if got, err := unix.Seek(int(f.Fd()), c.from, c.whence); got != c.got || err != nil {
			wrong("seek %d from %d: %d, %v", c.whence, c.from, got, err)
		}
	}
	must("fallocate", unix.Fallocate(int(f.Fd()), 0, 0, 2*far))
	if fi, err := f.Stat(); err != nil || fi.Size() != 2*far {
		wrong("size after fallocate: %v", err)
	}
	must("write", os.WriteFile(filepath.Join(dir, "g"), []byte("g"), 0o644))
	want("rename that replaces nothing", unix.Renameat2(unix.AT_FDCWD, p, unix.AT_FDCWD, filepath.Join(dir, "g"), unix.RENAME_NOREPLACE), unix.EEXIST)
	must("exchange", unix.Renameat2(unix.AT_FDCWD, p, unix.AT_FDCWD, filepath.Join(dir, "g"), unix.RENAME_EXCHANGE))
	if b, err := os.ReadFile(p); string(b) != "g" || err != nil {
		wrong("an exchanged file: %d bytes, %v", len(b), err)
	}
}

// follow says what a file is like whenever it is asked.
func follow(p string) {
	for s := bufio.NewScanner(os.Stdin); s.Scan(); {
		fi, err := os.Lstat(p)
		if err != nil {
			fmt.Println("none")
			continue
		}
		b, _ := os.ReadFile(p)
		fmt.Printf("%d %o %s\n", fi.Size(), fi.Mode().Perm(), bytes.TrimSpace(b))
	}
}
