//go:build linux

package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/vsock"
)

// Limits of what is taken from the host: it sends 512 bytes.
const (
	maxEntropy     = 64 << 10
	entropyTimeout = 10 * time.Second
)

// FetchEntropy reads the host's entropy from a port to its end and adds it to
// the kernel's pool, credited in full: the host is trusted with it, as with
// everything else of the VM.
func FetchEntropy(ctx context.Context, port uint32) error {
	ctx, cancel := context.WithTimeout(ctx, entropyTimeout)
	defer cancel()
	c, err := vsock.Dial(ctx, vsock.CIDHost, port)
	if err != nil {
		return fmt.Errorf("fetching entropy: %w", err)
	}
	defer c.Close()
	if d, ok := ctx.Deadline(); ok {
		c.SetReadDeadline(d)
	}
	random, err := os.OpenFile("/dev/random", os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("fetching entropy: %w", err)
	}
	defer random.Close()
	n, err := addEntropy(c, func(b []byte) error { return credit(int(random.Fd()), b) })
	if err != nil {
		return fmt.Errorf("fetching entropy: %w", err)
	}
	if n == 0 {
		return errors.New("fetching entropy: the host sent none")
	}
	return nil
}

func addEntropy(r io.Reader, add func([]byte) error) (int, error) {
	r = io.LimitReader(r, maxEntropy)
	var buf [512]byte
	total := 0
	for {
		n, err := r.Read(buf[:])
		if n > 0 {
			if err := add(buf[:n]); err != nil {
				return total, err
			}
			total += n
		}
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// poolInfo is struct rand_pool_info of random(4).
type poolInfo struct {
	bits, size int32
	data       [512]byte
}

func credit(fd int, b []byte) error {
	p := poolInfo{bits: int32(8 * len(b)), size: int32(len(b))}
	copy(p.data[:], b)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&p)))
	if errno != 0 {
		return os.NewSyscallError("RNDADDENTROPY", errno)
	}
	return nil
}
