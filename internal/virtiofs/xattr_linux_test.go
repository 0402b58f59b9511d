package virtiofs

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/hostfs"
)

func (g *guest) getxattr(node uint64, name string, size int) (string, error) {
	g.t.Helper()
	b, err := g.callFor(max(size, 8), opGetxattr, node, ints(uint32(size), uint32(0), name))
	return string(b), err
}

func (g *guest) listxattr(node uint64, size int) (string, error) {
	g.t.Helper()
	b, err := g.callFor(max(size, 8), opListxattr, node, ints(uint32(size), uint32(0)))
	return string(b), err
}

func (g *guest) setxattr(node uint64, name, value string, flags uint32) error {
	g.t.Helper()
	_, err := g.call(opSetxattr, node, uint32(len(value)), flags, name, []byte(value))
	return err
}

// hostXattr sets an attribute on the host.
func hostXattr(t *testing.T, path, name string) {
	t.Helper()
	if err := unix.Setxattr(path, name, []byte("host"), 0); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func TestXattr(t *testing.T) {
	dir := folder(t, "f", "data", "d/f", "")
	path := filepath.Join(dir, "f")
	g := newGuest(t, Config{}, hostfs.Share{Name: "s", Path: dir})
	node := g.walk("s", "f").node
	set := func(name, value string, flags uint32, want error) {
		t.Helper()
		wantErr(t, "set "+name, g.setxattr(node, name, value, flags), want)
	}
	get := func(name string, size int, value string, want error) {
		t.Helper()
		got, err := g.getxattr(node, name, size)
		if wantErr(t, "get "+name, err, want); got != value {
			t.Errorf("%s: got %q, want %q", name, got, value)
		}
	}
	get("user.a", 0, "", unix.ENODATA)
	set("user.a", "one", unix.XATTR_REPLACE, unix.ENODATA)
	set("user.a", "one", unix.XATTR_CREATE, nil)
	set("user.a", "one", unix.XATTR_CREATE, unix.EEXIST)
	set("user.a", "three", unix.XATTR_REPLACE, nil)
	set("user.b", "", 0, nil)
	set("user.b", "", 4, unix.EINVAL)
	get("user.a", 0, "\x05\x00\x00\x00\x00\x00\x00\x00", nil)
	get("user.a", 5, "three", nil)
	get("user.a", 1<<20, "three", nil)
	get("user.a", 4, "", unix.ERANGE)
	get("user.b", 0, "\x00\x00\x00\x00\x00\x00\x00\x00", nil)
	get("user.b", 1, "", nil)
	b := make([]byte, 10)
	if n, err := unix.Getxattr(path, "user.a", b); err != nil || string(b[:n]) != "three" {
		t.Errorf("on the host: %q, %v", b[:max(n, 0)], err)
	}

	// What is not the guest's.
	hostXattr(t, path, "trusted.overlay.opaque")
	hostXattr(t, path, "security.evil")
	for _, name := range []string{"trusted.overlay.opaque", "security.evil", "security.selinux", "system.nfs4_acl", "user.", "usr", "a"} {
		get(name, 100, "", unix.EOPNOTSUPP)
		set(name, "x", 0, unix.EOPNOTSUPP)
		_, err := g.call(opRemovexattr, node, name)
		wantErr(t, "remove "+name, err, unix.EOPNOTSUPP)
	}
	const names = "user.a\x00user.b\x00"
	for _, size := range []int{len(names), 1000, 1 << 20} {
		got, err := g.listxattr(node, size)
		wantErr(t, "list", err, nil)
		if sorted := strings.SplitAfter(got, "\x00"); len(got) != len(names) || len(sorted) != 3 {
			t.Errorf("names are %q", got)
		}
	}
	if n, err := g.listxattr(node, 0); err != nil || n != "\x0e\x00\x00\x00\x00\x00\x00\x00" {
		t.Errorf("length of names: %q, %v", n, err)
	}
	_, err := g.listxattr(node, len(names)-1)
	wantErr(t, "names in too little", err, unix.ERANGE)

	_, err = g.call(opRemovexattr, node, "user.a")
	wantErr(t, "remove", err, nil)
	_, err = g.call(opRemovexattr, node, "user.a")
	wantErr(t, "remove again", err, unix.ENODATA)

	big := strings.Repeat("x", hostfs.MaxXattr)
	for _, value := range []string{big + "y", big + strings.Repeat("y", 1000)} {
		set("user.big", value, 0, unix.E2BIG)
	}
	// As much as the host's file system takes.
	want := unix.Setxattr(path, "user.big", []byte(big), 0)
	set("user.big", big, 0, want)
	if want == nil {
		get("user.big", hostfs.MaxXattr, big, nil)
	}
}

func TestXattrArguments(t *testing.T) {
	dir := folder(t, "f", "data")
	g := newGuest(t, Config{}, hostfs.Share{Name: "s", Path: dir})
	node := g.walk("s", "f").node
	long := "user." + strings.Repeat("n", 251)
	for _, tt := range []struct {
		what string
		op   uint32
		args []any
		want error
	}{
		{"get, short", opGetxattr, []any{uint32(1)}, unix.EINVAL},
		{"get, no NUL", opGetxattr, []any{uint32(1), uint32(0), []byte("user.a")}, unix.EINVAL},
		{"get, behind the name", opGetxattr, []any{uint32(1), uint32(0), "user.a", []byte("b")}, unix.EINVAL},
		{"get, long name", opGetxattr, []any{uint32(1), uint32(0), long}, unix.ERANGE},
		{"list, long", opListxattr, []any{uint32(1), uint32(0), uint32(0)}, unix.EINVAL},
		{"set, short", opSetxattr, []any{uint32(1)}, unix.EINVAL},
		{"set, no NUL", opSetxattr, []any{uint32(0), uint32(0), []byte("user.a")}, unix.EINVAL},
		{"set, less than size", opSetxattr, []any{uint32(5), uint32(0), "user.a", []byte("b")}, unix.EINVAL},
		{"set, more than size", opSetxattr, []any{uint32(1), uint32(0), "user.a", []byte("bc")}, unix.EINVAL},
		{"set, size", opSetxattr, []any{uint32(1<<32 - 1), uint32(0), "user.a", []byte("bc")}, unix.E2BIG},
		{"set, flags", opSetxattr, []any{uint32(1), uint32(1 << 31), "user.a", []byte("b")}, unix.EINVAL},
		{"set, long name", opSetxattr, []any{uint32(1), uint32(0), long, []byte("b")}, unix.ERANGE},
		{"set, no name", opSetxattr, []any{uint32(1), uint32(0), "", []byte("b")}, unix.ERANGE},
		{"remove, no NUL", opRemovexattr, []any{[]byte("user.a")}, unix.EINVAL},
		{"remove, no name", opRemovexattr, []any{""}, unix.ERANGE},
	} {
		_, err := g.call(tt.op, node, tt.args...)
		wantErr(t, tt.what, err, tt.want)
	}
	for _, op := range []uint32{opGetxattr, opListxattr, opSetxattr, opRemovexattr} {
		args := map[uint32][]any{
			opGetxattr: {uint32(0), uint32(0), "user.a"}, opListxattr: {uint32(0), uint32(0)},
			opSetxattr: {uint32(0), uint32(0), "user.a"}, opRemovexattr: {"user.a"},
		}[op]
		_, err := g.call(op, node+1000, args...)
		wantErr(t, "no such node", err, unix.ESTALE)
		want := unix.EOPNOTSUPP
		if op == opSetxattr || op == opRemovexattr {
			want = unix.EROFS
		}
		_, err = g.call(op, rootID, args...)
		wantErr(t, "the root", err, want)
	}
	if got, _ := unix.Listxattr(filepath.Join(dir, "f"), nil); got > 0 {
		t.Errorf("%d bytes of names are there", got)
	}
}

func TestXattrReadOnly(t *testing.T) {
	dir := folder(t, "f", "data")
	hostXattr(t, filepath.Join(dir, "f"), "user.a")
	g := newGuest(t, Config{}, hostfs.Share{Name: "s", Path: dir, ReadOnly: true})
	node := g.walk("s", "f").node
	wantErr(t, "set", g.setxattr(node, "user.a", "x", 0), unix.EROFS)
	_, err := g.call(opRemovexattr, node, "user.a")
	wantErr(t, "remove", err, unix.EROFS)
	if got, err := g.getxattr(node, "user.a", 100); got != "host" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

// aclFor is a list by which user 1234 has all rights, too.
var aclFor = string(bytes.Join([][]byte{
	{2, 0, 0, 0},                            // version
	{1, 0, 6, 0, 0xff, 0xff, 0xff, 0xff},    // the owner
	{2, 0, 7, 0, 0xd2, 0x04, 0, 0},          // user 1234
	{4, 0, 5, 0, 0xff, 0xff, 0xff, 0xff},    // the group
	{0x10, 0, 7, 0, 0xff, 0xff, 0xff, 0xff}, // mask
	{0x20, 0, 4, 0, 0xff, 0xff, 0xff, 0xff}, // others
}, nil))

// TestACL has users of the guest change the POSIX ACL of a file: the guest's
// kernel does not keep them from that.
func TestACL(t *testing.T) {
	dir := folder(t, "f", "data")
	path := filepath.Join(dir, "f")
	if err := os.Chown(path, 1000, 1000); err != nil {
		t.Fatal(err)
	}
	if err := unix.Chmod(path, 0o2644); err != nil {
		t.Fatal(err)
	}
	g := newGuest(t, Config{}, hostfs.Share{Name: "s", Path: dir})
	node := g.walk("s", "f").node
	const name = "system.posix_acl_access"
	mode := func(what string, want uint32) {
		t.Helper()
		if a, err := g.getattr(node); err != nil || a.mode != unix.S_IFREG|want {
			t.Errorf("%s: mode %o, %v, want %o", what, a.mode, err, want)
		}
	}
	g.uid = 1001
	wantErr(t, "somebody else", g.setxattr(node, name, aclFor, 0), unix.EPERM)
	mode("somebody else", 0o2644)
	g.uid = 0
	wantErr(t, "root", g.setxattr(node, name, aclFor, 0), nil)
	mode("root", 0o2674)
	if got, err := g.getxattr(node, name, 1000); got != aclFor || err != nil {
		t.Errorf("got %x, %v", got, err)
	}
	g.uid = 1001
	_, err := g.call(opRemovexattr, node, name)
	wantErr(t, "removed by somebody else", err, unix.EPERM)
	g.uid = 1000
	wantErr(t, "the owner, of the group", g.setxattr(node, name, aclFor, 0), nil)
	mode("the owner, of the group", 0o2674)
	if err := os.Chown(path, 1000, 77); err != nil { // takes set-group-id away
		t.Fatal(err)
	}
	if err := unix.Chmod(path, 0o2674); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "the owner, not of the group", g.setxattr(node, name, aclFor, 0), nil)
	mode("the owner, not of the group", 0o674)
	_, err = g.call(opRemovexattr, node, name)
	wantErr(t, "removed by the owner", err, nil)
	wantErr(t, "nonsense", g.setxattr(node, name, "nonsense", 0), unix.EOPNOTSUPP)
}
