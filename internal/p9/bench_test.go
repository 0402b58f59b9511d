//go:build linux

package p9

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// The cost of the server without a guest: over a socket pair.
func BenchmarkServer(b *testing.B) {
	dir := b.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), make([]byte, 1<<20), 0o644); err != nil {
		b.Fatal(err)
	}
	s := NewServer(Config{})
	defer s.Close()
	if err := s.Add(Share{Name: "a", Path: dir}); err != nil {
		b.Fatal(err)
	}
	ours, theirs := pipe(b)
	go s.ServeConn(theirs)
	defer ours.Close()
	tag := uint16(0)
	call := func(typ uint8, args ...any) {
		m := message(typ, tag, body(args...))
		if _, err := ours.Write(m); err != nil {
			b.Fatal(err)
		}
		if got, err := readMessage(ours); err != nil || got[4] != typ+1 {
			b.Fatalf("message %d: %v, %v", typ, got, err)
		}
	}
	tag = noTag
	call(tVersion, uint32(512<<10), version)
	tag = 1
	call(tAttach, uint32(0), noFid, "", "a", uint32(0))
	call(tWalk, uint32(0), uint32(1), uint16(1), "f")
	call(tLopen, uint32(1), uint32(openReadWrite))
	b.Run("lstat", func(b *testing.B) {
		for b.Loop() {
			call(tWalk, uint32(0), uint32(2), uint16(1), "f")
			call(tGetattr, uint32(2), uint64(statsBasic))
			call(tClunk, uint32(2))
		}
	})
	for _, size := range []uint32{4096, 500 << 10} {
		data := make([]byte, size)
		b.Run(fmt.Sprint("read", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				call(tRead, uint32(1), uint64(0), size)
			}
		})
		b.Run(fmt.Sprint("write", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				call(tWrite, uint32(1), uint64(0), size, data)
			}
		})
	}
}
