package layers

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestScratch(t *testing.T) {
	for _, size := range []int64{
		0, MinScratch, MinScratch + 12345, 64 << 20, 128 << 20, 128<<20 + 4096, 130 << 20, 1 << 30,
		2<<30 - 4096, 2 << 30, 2<<30 + 4096, 2<<30 + 2<<20, 2<<30 + 3<<20, 2<<30 + 128<<20, 5 << 30, DefaultScratch, 1 << 40,
	} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			p, err := NewScratch(t.TempDir(), size)
			if err != nil {
				t.Fatal(err)
			}
			fsck(t, p)
			fi, err := os.Stat(p)
			if err != nil {
				t.Fatal(err)
			}
			if size == 0 {
				size = DefaultScratch
			}
			if fi.Size() > size || fi.Size() < size-128<<20 || fi.Size()%blockSize != 0 || diskUse(fi) > size/1000+1<<20 {
				t.Errorf("got %d bytes that take %d", fi.Size(), diskUse(fi))
			}
		})
	}
	// The largest disk is not checked by e2fsck, which takes a minute for it.
	if _, err := NewScratch(t.TempDir(), MaxScratch); err != nil {
		t.Error(err)
	}
	for _, size := range []int64{-1, 1, MinScratch - 1, MaxScratch + 1} {
		if _, err := NewScratch(t.TempDir(), size); !errors.Is(err, ErrInvalid) {
			t.Errorf("%d: got %v, want ErrInvalid", size, err)
		}
	}
	if _, err := NewScratch("/nonexistent", 0); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// TestScratchUse fills a disk through the kernel, in several groups, and looks
// at what is left.
func TestScratchUse(t *testing.T) {
	needRoot(t)
	p, err := NewScratch(t.TempDir(), 300<<20)
	if err != nil {
		t.Fatal(err)
	}
	body := bytes.Repeat([]byte("scratch "), 1<<20)
	func() {
		at := t.TempDir()
		run(t, "mount", "-t", "ext4", "-o", "loop", p, at)
		defer run(t, "umount", at)
		n := 0
		for ; n < 100; n++ {
			if err = os.WriteFile(filepath.Join(at, fmt.Sprint("big", n)), body, 0o600); err != nil {
				break
			}
		}
		if n < 33 || !isNoSpace(err) {
			t.Errorf("wrote %d files of 8 MiB, then %v", n, err)
		}
		for i := range 20 {
			if err := os.Remove(filepath.Join(at, fmt.Sprint("big", i))); err != nil {
				t.Error(err)
			}
		}
		for i := range 3000 {
			d := filepath.Join(at, fmt.Sprint("d", i%100))
			if err := errors.Join(os.MkdirAll(d, 0o755), os.WriteFile(filepath.Join(d, strings.Repeat("n", 100)+fmt.Sprint(i)), body[:i], 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(filepath.Join(at, "big20"))
		if err != nil || !bytes.Equal(got, body) {
			t.Errorf("read %d bytes, %v", len(got), err)
		}
	}()
	fsck(t, p)
}

func BenchmarkScratch(b *testing.B) {
	d := b.TempDir()
	for b.Loop() {
		p, err := NewScratch(d, DefaultScratch)
		if err != nil {
			b.Fatal(err)
		}
		os.Remove(p)
	}
}

func TestFormatTimes(t *testing.T) {
	// The same inputs give the same bytes.
	var images [][]byte
	for range 2 {
		f, err := os.Create(filepath.Join(t.TempDir(), "x"))
		if err != nil {
			t.Fatal(err)
		}
		if err := newFormat(4096, time.Unix(1e9, 0)).write(f); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, b)
		f.Close()
	}
	if !bytes.Equal(images[0], images[1]) {
		t.Error("got other bytes")
	}
}
