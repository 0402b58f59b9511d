//go:build linux

package hostfs

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A user of the client, and whether this process may give it files.
func user() (uid, gid uint32, root bool) {
	if os.Getuid() == 0 {
		return 1234, 5678, true
	}
	return uint32(os.Getuid()), uint32(os.Getgid()), false
}

// makers make a file of each kind.
var makers = map[string]func(dir *Node, name string, mode uint32, o Owner) (*Node, unix.Stat_t, error){
	"mkdir": (*Node).Mkdir,
	"mknod": (*Node).Mknod,
	"symlink": func(dir *Node, name string, _ uint32, o Owner) (*Node, unix.Stat_t, error) {
		return dir.Symlink(name, "../../etc/passwd", o)
	},
	"create": func(dir *Node, name string, mode uint32, o Owner) (*Node, unix.Stat_t, error) {
		n, f, st, err := dir.Create(name, unix.O_RDWR|unix.O_EXCL, mode, o)
		if err == nil {
			err = f.Close()
		}
		return n, st, err
	},
}

func TestOwnersAndModes(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	uid, gid, _ := user()
	dir := t.TempDir()
	tree := open(t, Share{Path: dir})
	for what, make := range makers {
		mode := map[string]uint32{"mkdir": unix.S_IFDIR | 0o3757, "symlink": unix.S_IFLNK | 0o777}[what]
		if mode == 0 {
			mode = unix.S_IFREG | 0o6575
		}
		n, st, err := make(tree.Root(), what, mode&0o7777, Owner{UID: uid, GID: gid})
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		host := lstat(t, filepath.Join(dir, what))
		if st != host || st.Mode != mode || st.Uid != uid || st.Gid != gid || n.ID().Ino != host.Ino {
			t.Errorf("%s: mode %o of %d:%d, want %o of %d:%d", what, st.Mode, st.Uid, st.Gid, mode, uid, gid)
		}
		n.Unref()
		_, _, err = make(tree.Root(), what, 0o755, Owner{})
		want(t, what+" of what is there", err, unix.EEXIST)
		n, st, err = make(tree.Root(), what+"2", 0o700, Owner{UID: NoID, GID: NoID})
		if err != nil {
			t.Fatal(err)
		}
		if n.Unref(); st.Uid != uint32(os.Getuid()) || st.Gid != uint32(os.Getgid()) {
			t.Errorf("%s: of %d:%d, want our own", what, st.Uid, st.Gid)
		}
	}
}

// In a folder with set-group-id the group is the folder's, if the server
// says so. The client of one that does not has said which group.
func TestGroupOfFolder(t *testing.T) {
	uid, gid, root := user()
	folderGID := gid
	if root {
		folderGID = 999
	}
	for _, tt := range []struct {
		what       string
		make       string
		folder     uint32 // mode
		owner      Owner
		mode, want uint32
		gid        uint32
	}{
		{"a plain folder", "create", 0o755, Owner{uid, gid, true}, 0o2755, 0o2755, gid},
		{"a program", "create", 0o2755, Owner{uid, gid + 1, true}, 0o2755, 0o755, folderGID},
		{"a program by mknod", "mknod", 0o2755, Owner{uid, gid + 1, true}, 0o6711, 0o4711, folderGID},
		{"one of the folder's group", "create", 0o2755, Owner{uid, folderGID, true}, 0o2755, 0o2755, folderGID},
		{"one of root", "create", 0o2755, Owner{0, gid + 1, true}, 0o2755, 0o2755, folderGID},
		{"what is no program", "create", 0o2755, Owner{uid, gid + 1, true}, 0o2745, 0o2745, folderGID},
		{"a file", "create", 0o2755, Owner{uid, gid + 1, true}, 0o644, 0o644, folderGID},
		{"a folder", "mkdir", 0o2755, Owner{uid, gid + 1, true}, 0o755, 0o2755, folderGID},
		{"a folder in a plain one", "mkdir", 0o755, Owner{uid, gid, true}, 0o755, 0o755, gid},
		{"a link", "symlink", 0o2755, Owner{uid, gid + 1, true}, 0o777, 0o777, folderGID},
		{"as it was said", "create", 0o2755, Owner{uid, gid, false}, 0o2755, 0o2755, gid},
		{"a folder as it was said", "mkdir", 0o2755, Owner{uid, gid, false}, 0o755, 0o2755, gid},
	} {
		t.Run(tt.what, func(t *testing.T) {
			dir := t.TempDir()
			if root {
				if err := os.Chown(dir, 0, int(folderGID)); err != nil {
					t.Fatal(err)
				}
			}
			if err := unix.Chmod(dir, tt.folder); err != nil {
				t.Fatal(err)
			}
			n, st, err := makers[tt.make](open(t, Share{Path: dir}).Root(), "x", tt.mode, tt.owner)
			if err != nil {
				t.Fatal(err)
			}
			n.Unref()
			if st.Mode&0o7777 != tt.want || st.Gid != tt.gid || st != lstat(t, filepath.Join(dir, "x")) {
				t.Errorf("mode %o of group %d, want %o of %d", st.Mode&0o7777, st.Gid, tt.want, tt.gid)
			}
		})
	}
}

func TestCreate(t *testing.T) {
	dir := t.TempDir()
	p := put(t, dir, "f", "text")
	mkdir(t, dir, "d")
	if err := os.Symlink("f", filepath.Join(dir, "s")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o666); err != nil {
		t.Fatal(err)
	}
	root := open(t, Share{Path: dir}).Root()
	none := Owner{UID: NoID, GID: NoID}
	for name, tt := range map[string]struct {
		flags int
		want  error
	}{
		"s":    {unix.O_RDWR, unix.ELOOP},
		"fifo": {unix.O_RDWR, unix.EPERM},
		"d":    {unix.O_RDWR, unix.EISDIR},
		"f":    {unix.O_RDWR | unix.O_EXCL, unix.EEXIST},
		"new":  {unix.O_ACCMODE, unix.EINVAL},
	} {
		_, _, _, err := root.Create(name, tt.flags, 0o644, none)
		want(t, name, err, tt.want)
	}
	n, f, st, err := root.Create("f", unix.O_RDWR|unix.O_TRUNC, 0o600, none)
	if err != nil || st.Size != 0 || st.Mode&0o7777 != 0o644 {
		t.Fatalf("what is there: %d bytes, mode %o, %v", st.Size, st.Mode, err)
	}
	if _, err := f.WriteAt([]byte("new"), 0, 0); err != nil {
		t.Error(err)
	}
	f.Close()
	n.Unref()
	if b, err := os.ReadFile(p); string(b) != "new" {
		t.Errorf("got %q, %v", b, err)
	}

	// A program can be run while a node of it is there that made it.
	n, f, _, err = root.Create("run", unix.O_WRONLY, 0o755, none)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("#!/bin/true\n"), 0, 0); err != nil {
		t.Error(err)
	}
	want(t, "flock", f.Flock(unix.LOCK_EX), nil)
	f.Close()
	pid, err := syscall.ForkExec(filepath.Join(dir, "run"), []string{"run"}, nil)
	if err != nil {
		t.Fatalf("running it: %v", err)
	}
	if _, err := syscall.Wait4(pid, nil, 0, nil); err != nil {
		t.Error(err)
	}
	// Nor is its lock left.
	want(t, "flock", openFile(t, n, 0).Flock(unix.LOCK_EX), nil)
	n.Unref()
}

// What cannot be made whole is not there.
func TestCreateWithoutDescriptor(t *testing.T) {
	dir := t.TempDir()
	for held := 1; held <= 2; held++ {
		tree := openAs(t, NewFiles(held), Share{Path: dir})
		for what, make := range makers {
			n, _, err := make(tree.Root(), what, 0o644, Owner{UID: NoID, GID: NoID})
			if err == nil && (what == "mkdir" || what == "symlink") && held == 2 {
				n.Unref()
				if err := os.Remove(filepath.Join(dir, what)); err != nil {
					t.Error(err)
				}
				continue
			}
			want(t, what, err, unix.ENFILE)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("with %d descriptors: %v", held, left)
		}
	}
}

func TestSpecialFiles(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(filepath.Join(dir, "sock"), unix.S_IFSOCK|0o666, 0); err != nil {
		t.Fatal(err)
	}
	tree := open(t, Share{Path: dir})
	for _, name := range []string{"fifo", "sock"} {
		n := at(t, tree, name)
		for _, flags := range []int{unix.O_RDONLY, unix.O_RDWR, unix.O_PATH} {
			_, _, err := n.Open(flags)
			want(t, "open of "+name, err, unix.EPERM)
		}
		want(t, "size of "+name, n.SetAttr(nil, Change{Set: SetSize}), unix.EINVAL)
		want(t, "link of "+name, n.Link(tree.Root(), name+"2"), nil)
		want(t, "unlink of "+name, tree.Root().Unlink(name, false), nil)
	}
	for what, mode := range map[string]uint32{"fifo": unix.S_IFIFO, "socket": unix.S_IFSOCK, "device": unix.S_IFCHR, "disk": unix.S_IFBLK, "folder": unix.S_IFDIR} {
		_, _, err := tree.Root().Mknod("new", mode|0o666, Owner{})
		want(t, what, err, unix.EPERM)
	}
	_, _, err := open(t, Share{Path: "/dev"}).Root().Mknod("null", unix.S_IFREG, Owner{})
	want(t, "over a device", err, unix.EEXIST)
}
