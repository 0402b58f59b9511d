//go:build linux

package virtiotest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// The guest's memory in tests: one memfd at these addresses.
const (
	GuestBase = 1 << 30
	UserBase  = 0x7f12_0000_0000
	GuestSize = 64 << 20
)

// A Frontend plays QEMU's part: it owns the guest's memory and speaks vhost-user.
type Frontend struct {
	T    testing.TB
	Sock *net.UnixConn
	FD   *os.File // the guest's memory
	Mem  []byte   // a mapping of it that is not the device's
	free uint64   // next unused offset of Mem
}

// Pair returns the two ends of a vhost-user socket.
func Pair(t testing.TB) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	conn := func(fd int) *net.UnixConn {
		f := os.NewFile(uintptr(fd), "socket")
		defer f.Close()
		c, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		return c.(*net.UnixConn)
	}
	return conn(fds[0]), conn(fds[1])
}

// Memfd returns a file of memory, which lives as long as the test.
func Memfd(t testing.TB, size int64) *os.File {
	t.Helper()
	fd, err := unix.MemfdCreate("guest", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "memfd")
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return f
}

// Eventfd returns an eventfd, which lives as long as the test.
func Eventfd(t testing.TB) *os.File {
	t.Helper()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "eventfd")
	t.Cleanup(func() { f.Close() })
	return f
}

// New returns the front end that is at the other end of conn, with guest memory
// of its own, not yet shared. The test's end closes conn.
func New(t testing.TB, conn *net.UnixConn) *Frontend {
	t.Helper()
	f := &Frontend{T: t, Sock: conn, FD: Memfd(t, GuestSize)}
	var err error
	f.Mem, err = unix.Mmap(int(f.FD.Fd()), 0, GuestSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		unix.Munmap(f.Mem)
	})
	return f
}

// Alloc returns the offset of n bytes of guest memory.
func (f *Frontend) Alloc(n uint64) uint64 {
	o := f.free
	f.free += (n + 63) &^ 63
	if f.free > GuestSize {
		f.T.Fatal("out of guest memory")
	}
	return o
}

// Words32 returns words in little-endian order.
func Words32(v ...uint32) []byte {
	var b []byte
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, x)
	}
	return b
}

// Words64 returns words in little-endian order.
func Words64(v ...uint64) []byte {
	var b []byte
	for _, x := range v {
		b = binary.LittleEndian.AppendUint64(b, x)
	}
	return b
}

// Send writes one message.
func (f *Frontend) Send(request, flags uint32, payload []byte, files ...*os.File) error {
	var oob []byte
	if len(files) > 0 {
		var fds []int
		for _, x := range files {
			rc, err := x.SyscallConn()
			if err != nil {
				return err
			}
			rc.Control(func(fd uintptr) { fds = append(fds, int(fd)) })
		}
		oob = unix.UnixRights(fds...)
	}
	b := append(Words32(request, flags, uint32(len(payload))), payload...)
	_, _, err := f.Sock.WriteMsgUnix(b, oob, nil)
	return err
}

// Receive reads one reply's payload.
func (f *Frontend) Receive(request uint32) ([]byte, error) {
	h := make([]byte, headerLen)
	if _, err := io.ReadFull(f.Sock, h); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	if le.Uint32(h) != request || le.Uint32(h[4:]) != Version|Reply {
		return nil, fmt.Errorf("reply % x to request %d", h, request)
	}
	p := make([]byte, le.Uint32(h[8:]))
	_, err := io.ReadFull(f.Sock, p)
	return p, err
}

// Ask sends a request that has an answer.
func (f *Frontend) Ask(request uint32, payload []byte) []byte {
	f.T.Helper()
	if err := f.Send(request, Version, payload); err != nil {
		f.T.Fatal(err)
	}
	p, err := f.Receive(request)
	if err != nil {
		f.T.Fatal(err)
	}
	return p
}

// ErrRefused is what Try returns when the device says no.
var ErrRefused = errors.New("the device refused")

// Try sends a request that has none and waits for the acknowledgement.
func (f *Frontend) Try(request uint32, payload []byte, files ...*os.File) error {
	if err := f.Send(request, Version|NeedReply, payload, files...); err != nil {
		return err
	}
	p, err := f.Receive(request)
	if err != nil {
		return err
	}
	if binary.LittleEndian.Uint64(p) != 0 {
		return ErrRefused
	}
	return nil
}

// Do is Try that must succeed.
func (f *Frontend) Do(request uint32, payload []byte, files ...*os.File) {
	f.T.Helper()
	if err := f.Try(request, payload, files...); err != nil {
		f.T.Fatalf("request %d: %v", request, err)
	}
}

// Handshake does what QEMU does when it makes the device.
func (f *Frontend) Handshake() {
	f.T.Helper()
	f.Ask(GetFeatures, nil)
	f.Send(SetProtocolFeatures, Version, f.Ask(GetProtocolFeatures, nil))
	f.Ask(GetQueueNum, nil)
	f.Do(SetOwner, nil)
}

// AddMemory shares the guest's memory.
func (f *Frontend) AddMemory() {
	f.T.Helper()
	f.Do(AddMemReg, Words64(0, GuestBase, GuestSize, UserBase, 0), f.FD)
}
