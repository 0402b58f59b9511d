//go:build linux

package hostfs

import (
	"bytes"
	"math/rand/v2"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func random(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// split returns b in so many pieces, some of nothing.
func split(b []byte, many int) (pieces [][]byte) {
	for left := many; left > 1; left-- {
		n := min(rand.IntN(2*len(b)/left+2), len(b))
		pieces = append(pieces, b[:n])
		b = b[n:]
	}
	return append(pieces, b)
}

func TestPieces(t *testing.T) {
	dir := t.TempDir()
	p := put(t, dir, "f", "")
	f := openFile(t, at(t, open(t, Share{Path: dir}), "f"), unix.O_RDWR)
	for _, many := range []int{1, 2, 100, maxPieces, maxPieces + 1, 3*maxPieces + 7} {
		for _, size := range []int{0, 1, 5000, 300_000} {
			data, off := random(size), int64(rand.IntN(10_000))
			if n, err := f.WriteV(split(data, many), off, 0); n != size || err != nil {
				t.Fatalf("%d bytes in %d pieces: wrote %d, %v", size, many, n, err)
			}
			if b, err := os.ReadFile(p); err != nil || !bytes.Equal(b[min(int(off), len(b)):min(int(off)+size, len(b))], data) {
				t.Fatalf("%d bytes in %d pieces: the file has others, %v", size, many, err)
			}
			got := make([]byte, size)
			if n, err := f.ReadV(split(got, many), off); n != size || err != nil || !bytes.Equal(got, data) {
				t.Fatalf("%d bytes in %d pieces: read %d, %v", size, many, n, err)
			}
		}
	}
	end := lstat(t, p).Size
	got := make([]byte, 5000)
	if n, err := f.ReadV(split(got, 2000), end-1000); n != 1000 || err != nil {
		t.Errorf("at the end: read %d, %v, want 1000", n, err)
	}
	if n, err := f.ReadV(split(got, 10), end); n != 0 || err != nil {
		t.Errorf("past the end: read %d, %v", n, err)
	}
	_, err := f.ReadV([][]byte{got}, -1)
	want(t, "before the beginning", err, unix.EINVAL)
	_, err = f.WriteV([][]byte{got}, -1, 0)
	want(t, "before the beginning", err, unix.EINVAL)
	want(t, "sync", f.Sync(false), nil)
	want(t, "sync of data", f.Sync(true), nil)
}

// Memory of a guest can be gone: that is an error, and no signal.
func TestNoMemory(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "f", string(make([]byte, 10_000)))
	f := openFile(t, at(t, open(t, Share{Path: dir}), "f"), unix.O_RDWR)
	gone, err := unix.Mmap(-1, 0, 4096, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(gone)
	there := make([]byte, 100)
	for what, do := range map[string]func([][]byte, int64) (int, error){
		"read": f.ReadV, "write": func(b [][]byte, off int64) (int, error) { return f.WriteV(b, off, 0) },
	} {
		_, err := do([][]byte{gone}, 0)
		want(t, what, err, unix.EFAULT)
		if n, err := do([][]byte{there, gone}, 0); n != 100 && err == nil {
			t.Errorf("%s: %d bytes, %v", what, n, err)
		}
	}
}

func TestAppend(t *testing.T) {
	dir := t.TempDir()
	p := put(t, dir, "f", "one")
	f := openFile(t, at(t, open(t, Share{Path: dir}), "f"), unix.O_WRONLY|unix.O_APPEND)
	long := bytes.Repeat([]byte("x"), 2*maxPieces)
	pieces := make([][]byte, len(long))
	for i := range pieces {
		pieces[i] = long[i : i+1]
	}
	if n, err := f.WriteV(pieces, 1, 0); n != len(long) {
		t.Errorf("wrote %d, %v", n, err)
	}
	if n, err := f.WriteAt([]byte("end"), 0, 0); n != 3 {
		t.Errorf("wrote %d, %v", n, err)
	}
	if b, err := os.ReadFile(p); string(b) != "one"+string(long)+"end" {
		t.Errorf("got %q, %v", b, err)
	}
	_, err := f.ReadAt(make([]byte, 1), 0)
	want(t, "read of a write-only file", err, unix.EBADF)
}

// limit has this process write no file longer than n bytes, until the test ends.
func limit(t *testing.T, n uint64) {
	t.Helper()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: n, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
			t.Fatal(err)
		}
	})
}

func TestFileSizeLimit(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "f", "")
	n := at(t, open(t, Share{Path: dir}), "f")
	limit(t, 1000)
	f, a := openFile(t, n, unix.O_RDWR), openFile(t, n, unix.O_WRONLY|unix.O_APPEND)
	pieces := func(n int) [][]byte { return split(make([]byte, n), n) }
	if n, err := f.WriteV(pieces(20), 985, 0); n != 15 || err != nil {
		t.Errorf("wrote %d, %v, want 15", n, err)
	}
	if n, err := f.WriteAt(make([]byte, 20), 990, 0); n != 10 || err != nil {
		t.Errorf("wrote %d, %v, want 10", n, err)
	}
	_, err := f.WriteV(pieces(1), 1000, 0)
	want(t, "write", err, unix.EFBIG)
	_, err = a.WriteV(pieces(1), 0, 0)
	want(t, "append", err, unix.EFBIG)
	_, err = f.WriteV(pieces(1), 0, AtEnd)
	want(t, "append by one write", err, unix.EFBIG)
	_, err = f.CopyRange(0, f, 1000, 5)
	want(t, "copy", err, unix.EFBIG)
	want(t, "allocate", f.Fallocate(0, 999, 2), unix.EFBIG)
	want(t, "allocate the last", f.Fallocate(0, 999, 1), nil)
	if n, err := f.WriteV(nil, 2000, 0); n != 0 || err != nil {
		t.Errorf("nothing: %d, %v", n, err)
	}
}

func TestDropPrivilege(t *testing.T) {
	dir := t.TempDir()
	p := put(t, dir, "f", "text")
	f := openFile(t, at(t, open(t, Share{Path: dir}), "f"), unix.O_RDWR)
	b := []byte("x")
	for _, tt := range []struct {
		what       string
		mode, want uint32
		do         func() (int, error)
	}{
		{"a write of root", 0o6777, 0o6777, func() (int, error) { return f.WriteAt(b, 0, 0) }},
		{"a write", 0o6777, 0o777, func() (int, error) { return f.WriteAt(b, 0, DropPrivilege) }},
		{"pieces", 0o4766, 0o766, func() (int, error) { return f.WriteV([][]byte{b}, 0, DropPrivilege) }},
		{"a group that runs not", 0o2767, 0o2767, func() (int, error) { return f.WriteAt(b, 0, DropPrivilege) }},
		{"nothing", 0o6777, 0o6777, func() (int, error) { return f.WriteV(nil, 0, DropPrivilege) }},
		{"as it is asked", 0o6767, 0o2767, func() (int, error) { return 0, f.DropPrivilege() }},
	} {
		if err := unix.Chmod(p, tt.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := tt.do(); err != nil {
			t.Errorf("%s: %v", tt.what, err)
		}
		if os.Getuid() != 0 && tt.what == "a write of root" {
			continue // the host's kernel knows that it is not
		}
		if got := lstat(t, p).Mode & 0o7777; got != tt.want {
			t.Errorf("%s: mode %o, want %o", tt.what, got, tt.want)
		}
	}
}
