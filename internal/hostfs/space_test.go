//go:build linux

package hostfs

import (
	"bytes"
	"math"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	keepSize  = unix.FALLOC_FL_KEEP_SIZE
	punchHole = unix.FALLOC_FL_PUNCH_HOLE
	zeroRange = unix.FALLOC_FL_ZERO_RANGE
)

func TestFallocate(t *testing.T) {
	dir := t.TempDir()
	p := put(t, dir, "f", "")
	n := at(t, open(t, Share{Path: dir}), "f")
	f := openFile(t, n, unix.O_RDWR)
	probe, err := os.Create(dir + "/probe")
	if err != nil {
		t.Fatal(err)
	}
	defer probe.Close()
	const size = 64 << 10
	for _, tt := range []struct {
		what        string
		mode        uint32
		off, length int64
		size        int64 // after that
		zero        bool
		room        int64 // in 512 bytes
	}{
		// What is taken away is at most what room says, what is given at least.
		{"longer", 0, size - 4096, 8192, size + 4096, false, (size + 4096) / 512},
		{"longer, but not seen", keepSize, size, 8192, size, false, (size + 8192) / 512},
		{"a hole", punchHole | keepSize, 4096, 8192, size, true, (size - 8192) / 512},
		{"zeros", zeroRange, 4096, 8192, size, true, size / 512},
		{"zeros at the end", zeroRange | keepSize, size - 4096, 8192, size, true, (size + 4096) / 512},
	} {
		if err := os.Truncate(p, 0); err != nil {
			t.Fatal(err)
		}
		want := bytes.Repeat([]byte("x"), size)
		if _, err := f.WriteAt(want, 0, 0); err != nil {
			t.Fatal(err)
		}
		// Not every file system can do each of them.
		able := unix.Fallocate(int(probe.Fd()), tt.mode, tt.off, tt.length)
		if err := f.Fallocate(tt.mode, tt.off, tt.length); err != nil || able != nil {
			if err != able {
				t.Errorf("%s: %v, want %v", tt.what, err, able)
			}
			continue
		}
		want = append(want, make([]byte, max(0, tt.size-size))...)
		if tt.zero {
			clear(want[tt.off:min(tt.off+tt.length, size)])
		}
		if err := f.Sync(false); err != nil {
			t.Error(err)
		}
		st := lstat(t, p)
		wrong := st.Blocks < tt.room
		if tt.mode&punchHole != 0 {
			wrong = st.Blocks > tt.room
		}
		if b, err := os.ReadFile(p); err != nil || !bytes.Equal(b, want) || wrong {
			t.Errorf("%s: %d bytes, %d blocks, want %d and %d, or others; %v", tt.what, len(b), st.Blocks, len(want), tt.room, err)
		}
	}
	for _, mode := range []uint32{
		punchHole, unix.FALLOC_FL_COLLAPSE_RANGE, unix.FALLOC_FL_INSERT_RANGE, unix.FALLOC_FL_UNSHARE_RANGE,
		punchHole | zeroRange | keepSize, 1 << 31,
	} {
		want(t, "another mode", f.Fallocate(mode, 0, 4096), unix.EOPNOTSUPP)
	}
	for _, tt := range [][2]int64{{-1, 1}, {0, 0}, {0, -1}, {math.MinInt64, math.MinInt64}} {
		want(t, "no range", f.Fallocate(0, tt[0], tt[1]), unix.EINVAL)
	}
	want(t, "a long range", f.Fallocate(0, math.MaxInt64, math.MaxInt64), unix.EFBIG)
	reader := openFile(t, n, 0)
	want(t, "not for writing", reader.Fallocate(0, 0, 1), unix.EBADF)
	want(t, "not writable", reader.Writable(), unix.EBADF)
	want(t, "writable", f.Writable(), nil)
}

func TestSeek(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "f", "")
	tree := open(t, Share{Path: dir})
	f := openFile(t, at(t, tree, "f"), unix.O_RDWR)
	for _, off := range []int64{0, 1 << 20} {
		if _, err := f.WriteAt(make([]byte, 64<<10), off, 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		off    int64
		whence int
		want   int64
		err    error
	}{
		{10, unix.SEEK_DATA, 10, nil},
		{10, unix.SEEK_HOLE, 64 << 10, nil},
		{64 << 10, unix.SEEK_DATA, 1 << 20, nil},
		{1 << 20, unix.SEEK_HOLE, 1<<20 + 64<<10, nil},
		{2 << 20, unix.SEEK_DATA, 0, unix.ENXIO},
		{-1, unix.SEEK_DATA, 0, unix.ENXIO},
		{0, unix.SEEK_SET, 0, unix.EINVAL},
		{0, unix.SEEK_END, 0, unix.EINVAL},
	} {
		if got, err := f.Seek(tt.off, tt.whence); err != tt.err || err == nil && got != tt.want {
			t.Errorf("from %d by %d: got %d, %v, want %d, %v", tt.off, tt.whence, got, err, tt.want, tt.err)
		}
	}
	_, err := openFile(t, tree.Root(), 0).Seek(0, unix.SEEK_DATA)
	want(t, "in a folder", err, unix.EINVAL)
}

func TestCopyRange(t *testing.T) {
	dir := t.TempDir()
	data := random(100_000)
	put(t, dir, "f", string(data))
	p := put(t, dir, "g", "")
	tree := open(t, Share{Path: dir})
	f, g := openFile(t, at(t, tree, "f"), 0), openFile(t, at(t, tree, "g"), unix.O_RDWR)
	if n, err := f.CopyRange(1000, g, 10, 50_000); n != 50_000 || err != nil {
		t.Fatalf("copied %d, %v", n, err)
	}
	if b, err := os.ReadFile(p); !bytes.Equal(b, append(make([]byte, 10), data[1000:51_000]...)) {
		t.Errorf("the copy has %d others, %v", len(b), err)
	}
	if n, err := f.CopyRange(99_000, g, 0, math.MaxUint64); n != 1000 || err != nil {
		t.Errorf("at the end: copied %d, %v, want 1000", n, err)
	}
	if n, err := f.CopyRange(100_000, g, 0, 1); n != 0 || err != nil {
		t.Errorf("past the end: copied %d, %v", n, err)
	}
	if n, err := f.CopyRange(0, g, 0, 0); n != 0 || err != nil {
		t.Errorf("nothing: copied %d, %v", n, err)
	}
	_, err := f.CopyRange(-1, g, 0, 1)
	want(t, "from nowhere", err, unix.EINVAL)
	_, err = f.CopyRange(0, g, -1, 1)
	want(t, "to nowhere", err, unix.EINVAL)
	_, err = g.CopyRange(0, f, 0, 1)
	want(t, "not for writing", err, unix.EBADF)
	_, err = f.CopyRange(0, openFile(t, tree.Root(), 0), 0, 1)
	want(t, "to a folder", err, unix.EISDIR)
	// No more at a time than maxCopy.
	if err := os.Truncate(dir+"/f", maxCopy+4096); err != nil {
		t.Fatal(err)
	}
	if n, err := f.CopyRange(0, g, 0, 2*maxCopy); n == 0 || n > maxCopy || err != nil {
		t.Errorf("much: copied %d, %v", n, err)
	}
}
