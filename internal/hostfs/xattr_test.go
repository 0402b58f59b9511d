//go:build linux

package hostfs

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestXattr(t *testing.T) {
	dir := t.TempDir()
	p := put(t, dir, "f", "")
	n := at(t, open(t, Share{Path: dir}), "f")
	for name, value := range map[string]string{"user.one": "1", "user.two": "22", "user.empty": ""} {
		if err := n.Setxattr(name, []byte(value), unix.XATTR_CREATE); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 10)
		size, err := n.Getxattr(name, nil)
		if m, err2 := n.Getxattr(name, b); size != len(value) || string(b[:m]) != value {
			t.Errorf("%s: %d bytes, %q, want %q, %v, %v", name, size, b[:m], value, err, err2)
		}
	}
	// What the host has besides is not there.
	hidden := []string{"trusted.overlay.opaque", "security.selinux", "user.", "system.sockprotoname", "", "user.a\x00b"}
	for _, name := range hidden {
		if name != "user." && name != "" {
			_ = unix.Setxattr(p, name, []byte("y"), 0) // root only
		}
		_, err := n.Getxattr(name, make([]byte, 10))
		want(t, "get "+name, err, unix.EOPNOTSUPP)
		want(t, "set "+name, n.Setxattr(name, []byte("y"), 0), unix.EOPNOTSUPP)
		want(t, "remove "+name, n.Removexattr(name), unix.EOPNOTSUPP)
	}
	const all = "user.empty\x00user.one\x00user.two\x00"
	sorted := func(b []byte) string {
		names := strings.SplitAfter(string(b), "\x00")
		slices.Sort(names)
		return strings.Join(names, "")
	}
	for _, room := range []int{len(all), len(all) + 1, 1000} {
		b := make([]byte, room)
		if m, err := n.Listxattr(b); err != nil || sorted(b[:m]) != all {
			t.Errorf("with room for %d: %q, %v", room, b[:max(m, 0)], err)
		}
	}
	if size, err := n.Listxattr(nil); size != len(all) || err != nil {
		t.Errorf("%d bytes, %v, want %d", size, err, len(all))
	}
	_, err := n.Listxattr(make([]byte, len(all)-1))
	want(t, "no room for all names", err, unix.ERANGE)
	_, err = n.Getxattr("user.two", make([]byte, 1))
	want(t, "no room for a value", err, unix.ERANGE)
	_, err = n.Getxattr("user.none", nil)
	want(t, "what is not there", err, unix.ENODATA)
	want(t, "create what is there", n.Setxattr("user.one", nil, unix.XATTR_CREATE), unix.EEXIST)
	want(t, "replace what is not there", n.Setxattr("user.x", nil, unix.XATTR_REPLACE), unix.ENODATA)
	want(t, "other flags", n.Setxattr("user.x", nil, 4), unix.EINVAL)
	want(t, "a long one", n.Setxattr("user.x", make([]byte, MaxXattr+1), 0), unix.E2BIG)
	want(t, "remove", n.Removexattr("user.two"), nil)
	want(t, "remove again", n.Removexattr("user.two"), unix.ENODATA)
	b := make([]byte, 1000)
	if m, err := n.Listxattr(b); err != nil || bytes.Contains(b[:m], []byte("two")) {
		t.Errorf("after that: %q, %v", b[:m], err)
	}
}
