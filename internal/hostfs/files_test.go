//go:build linux

package hostfs

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// Two guests of one process have together no more than there is for all.
func TestFilesOfProcess(t *testing.T) {
	all := &Files{max: 3}
	a, b := &Files{max: 2, of: all}, &Files{max: 2, of: all}
	open := func() (int, error) { return unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0) }
	var fds []int
	for i, f := range []*Files{a, a, b} {
		fd, err := f.take(open)
		if err != nil {
			t.Fatal(i, err)
		}
		fds = append(fds, fd)
	}
	for _, f := range []*Files{a, b} {
		if fd, err := f.take(open); !errors.Is(err, unix.ENFILE) {
			t.Errorf("got %d, %v, want ENFILE", fd, err)
		}
	}
	if _, err := b.take(func() (int, error) { return -1, unix.ENOENT }); !errors.Is(err, unix.ENFILE) {
		t.Errorf("got %v, want ENFILE", err)
	}
	a.drop(fds[0])
	if _, err := b.take(func() (int, error) { return -1, unix.ENOENT }); !errors.Is(err, unix.ENOENT) {
		t.Errorf("got %v, want ENOENT", err)
	}
	a.drop(fds[1])
	b.drop(fds[2])
	if a.Held() != 0 || b.Held() != 0 || all.Held() != 0 {
		t.Errorf("%d, %d and %d are held", a.Held(), b.Held(), all.Held())
	}
	if f := NewFiles(0); f.of != process() || f.Max() < 1 || int64(f.Max()) >= f.of.max {
		t.Errorf("the default is %d of %d", f.Max(), f.of.max)
	}
}
