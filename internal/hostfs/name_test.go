//go:build linux

package hostfs

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestRename(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a", "a")
	put(t, dir, "b", "b")
	put(t, mkdir(t, dir, "d"), "c", "c")
	tree := open(t, Share{Path: dir})
	root, d := tree.Root(), at(t, tree, "d")
	has := func(name, text string) {
		t.Helper()
		if b, err := os.ReadFile(filepath.Join(dir, name)); string(b) != text {
			t.Errorf("%s has %q, want %q, %v", name, b, text, err)
		}
	}
	a := at(t, tree, "a")
	want(t, "rename", root.Rename("a", d, "a", 0), nil)
	has("d/a", "a")
	if st, err := a.Stat(); st != lstat(t, dir+"/d/a") {
		t.Errorf("the node is another file: %v", err)
	}
	want(t, "what is there", d.Rename("a", root, "b", unix.RENAME_NOREPLACE), unix.EEXIST)
	want(t, "what is not there", d.Rename("a", root, "new", unix.RENAME_NOREPLACE), nil)
	has("new", "a")
	want(t, "exchange", root.Rename("b", d, "c", unix.RENAME_EXCHANGE), nil)
	has("b", "c")
	has("d/c", "b")
	want(t, "exchange with nothing", root.Rename("b", d, "none", unix.RENAME_EXCHANGE), unix.ENOENT)
	want(t, "replace", root.Rename("b", d, "c", 0), nil)
	has("d/c", "c")
	for _, flags := range []uint32{unix.RENAME_WHITEOUT, unix.RENAME_NOREPLACE | unix.RENAME_EXCHANGE, 1 << 31} {
		want(t, "other flags", root.Rename("new", d, "x", flags), unix.EINVAL)
	}
	other := open(t, Share{Path: dir}).Root()
	want(t, "between trees", root.Rename("new", other, "x", 0), unix.EXDEV)
	want(t, "link between trees", at(t, tree, "new").Link(other, "x"), unix.EXDEV)
	want(t, "into a file", root.Rename("new", at(t, tree, "new"), "x", 0), unix.ENOTDIR)
}

func TestLinkAndUnlink(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "f", "text")
	mkdir(t, dir, "d")
	if err := os.Symlink("../../etc/passwd", filepath.Join(dir, "s")); err != nil {
		t.Fatal(err)
	}
	tree := open(t, Share{Path: dir})
	f, d, s := at(t, tree, "f"), at(t, tree, "d"), at(t, tree, "s")
	want(t, "link", f.Link(d, "f"), nil)
	want(t, "link of a link", s.Link(d, "s"), nil)
	if to, err := os.Readlink(dir + "/d/s"); to != "../../etc/passwd" {
		t.Errorf("the link leads to %q, %v", to, err)
	}
	if st, err := f.Stat(); st.Nlink != 2 {
		t.Errorf("%d links, %v", st.Nlink, err)
	}
	want(t, "link of a folder", d.Link(d, "d"), unix.EPERM)
	want(t, "link over a file", s.Link(d, "f"), unix.EEXIST)
	if to, err := s.Readlink(); to != "../../etc/passwd" {
		t.Errorf("the link leads to %q, %v", to, err)
	}
	_, err := f.Readlink()
	want(t, "text of a file", err, unix.EINVAL)
	root := tree.Root()
	want(t, "unlink of a folder", root.Unlink("d", false), unix.EISDIR)
	want(t, "rmdir of a full folder", root.Unlink("d", true), unix.ENOTEMPTY)
	want(t, "rmdir of a file", root.Unlink("f", true), unix.ENOTDIR)
	want(t, "unlink", d.Unlink("f", false), nil)
	want(t, "unlink of a link", d.Unlink("s", false), nil)
	want(t, "rmdir", root.Unlink("d", true), nil)
	want(t, "again", root.Unlink("d", true), unix.ENOENT)
}

func TestReadOnly(t *testing.T) {
	dir := t.TempDir()
	p := put(t, dir, "f", "text")
	mkdir(t, dir, "d")
	if err := unix.Chmod(p, 0o6777); err != nil {
		t.Fatal(err)
	}
	before := lstat(t, p)
	tree := open(t, Share{Path: dir, ReadOnly: true})
	root, f := tree.Root(), at(t, tree, "f")
	for what, make := range makers {
		_, _, err := make(root, "x", 0o755, Owner{})
		want(t, what, err, unix.EROFS)
	}
	for _, flags := range []int{unix.O_WRONLY, unix.O_RDWR, unix.O_RDONLY | unix.O_TRUNC, unix.O_ACCMODE} {
		_, _, err := f.Open(flags)
		want(t, "open", err, unix.EROFS)
		_, _, _, err = root.Create("f", flags, 0o644, Owner{})
		want(t, "create", err, unix.EROFS)
	}
	file := openFile(t, f, unix.O_RDONLY)
	_, err := file.WriteAt([]byte("x"), 0, DropPrivilege)
	want(t, "write", err, unix.EBADF)
	_, err = file.WriteV([][]byte{{1}}, 0, DropPrivilege)
	want(t, "write of pieces", err, unix.EBADF)
	_, err = file.CopyRange(0, file, 2, 1)
	want(t, "copy", err, unix.EBADF)
	for what, err := range map[string]error{
		"link":      f.Link(root, "x"),
		"rename":    root.Rename("f", root, "x", 0),
		"exchange":  root.Rename("f", root, "d", unix.RENAME_EXCHANGE),
		"unlink":    root.Unlink("f", false),
		"rmdir":     root.Unlink("d", true),
		"change":    f.SetAttr(nil, Change{Set: SetMode}),
		"drop":      f.SetAttr(nil, Change{Set: SetUnprivileged}),
		"privilege": file.DropPrivilege(),
		"writable":  file.Writable(),
		"xattr":     f.Setxattr("user.x", nil, 0),
		"no xattr":  f.Removexattr("user.x"),
	} {
		want(t, what, err, unix.EROFS)
	}
	want(t, "allocate", file.Fallocate(0, 0, 10), unix.EBADF)
	if after := lstat(t, p); after != before {
		t.Errorf("got %+v, want %+v", after, before)
	}
}
