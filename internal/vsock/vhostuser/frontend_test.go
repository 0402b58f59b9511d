//go:build linux

package vhostuser

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The guest's memory in tests: one memfd at these addresses.
const (
	guestBase = 1 << 30
	userBase  = 0x7f12_0000_0000
	guestSize = 16 << 20
)

// A frontend plays QEMU's part: it owns the guest's memory and speaks vhost-user.
type frontend struct {
	t    testing.TB
	sock *net.UnixConn
	fd   *os.File // the guest's memory
	mem  []byte   // a mapping of it that is not the device's
	free uint64   // next unused offset of mem
}

// pair returns the two ends of a vhost-user socket.
func pair(t testing.TB) (a, b *net.UnixConn) {
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

func memfd(t testing.TB, size int64) *os.File {
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

func eventfd(t testing.TB) *os.File {
	t.Helper()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "eventfd")
	t.Cleanup(func() { f.Close() })
	return f
}

// attach starts a device and its front end.
func attach(t testing.TB) (*Device, *frontend) {
	t.Helper()
	a, b := pair(t)
	d := New(a, Config{Logger: slog.New(slog.DiscardHandler)})
	f := &frontend{t: t, sock: b, fd: memfd(t, guestSize)}
	var err error
	f.mem, err = unix.Mmap(int(f.fd.Fd()), 0, guestSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.Close()
		b.Close()
		unix.Munmap(f.mem)
	})
	return d, f
}

// alloc returns the offset of n bytes of guest memory.
func (f *frontend) alloc(n uint64) uint64 {
	o := f.free
	f.free += (n + 63) &^ 63
	if f.free > guestSize {
		f.t.Fatal("out of guest memory")
	}
	return o
}

func words32(v ...uint32) []byte {
	var b []byte
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, x)
	}
	return b
}

func words64(v ...uint64) []byte {
	var b []byte
	for _, x := range v {
		b = binary.LittleEndian.AppendUint64(b, x)
	}
	return b
}

// send writes one message.
func (f *frontend) send(request, flags uint32, payload []byte, files ...*os.File) error {
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
	b := append(words32(request, flags, uint32(len(payload))), payload...)
	_, _, err := f.sock.WriteMsgUnix(b, oob, nil)
	return err
}

// receive reads one reply's payload.
func (f *frontend) receive(request uint32) ([]byte, error) {
	h := make([]byte, msgHeaderLen)
	if _, err := io.ReadFull(f.sock, h); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	if le.Uint32(h) != request || le.Uint32(h[4:]) != msgVersion|msgReply {
		return nil, fmt.Errorf("reply % x to request %d", h, request)
	}
	p := make([]byte, le.Uint32(h[8:]))
	_, err := io.ReadFull(f.sock, p)
	return p, err
}

// ask sends a request that has an answer.
func (f *frontend) ask(request uint32, payload []byte) []byte {
	f.t.Helper()
	if err := f.send(request, msgVersion, payload); err != nil {
		f.t.Fatal(err)
	}
	p, err := f.receive(request)
	if err != nil {
		f.t.Fatal(err)
	}
	return p
}

var errRefused = errors.New("the device refused")

// try sends a request that has none and waits for the acknowledgement.
func (f *frontend) try(request uint32, payload []byte, files ...*os.File) error {
	if err := f.send(request, msgVersion|msgNeedReply, payload, files...); err != nil {
		return err
	}
	p, err := f.receive(request)
	if err != nil {
		return err
	}
	if binary.LittleEndian.Uint64(p) != 0 {
		return errRefused
	}
	return nil
}

func (f *frontend) do(request uint32, payload []byte, files ...*os.File) {
	f.t.Helper()
	if err := f.try(request, payload, files...); err != nil {
		f.t.Fatalf("request %d: %v", request, err)
	}
}

// handshake does what QEMU does when it makes the device.
func (f *frontend) handshake() {
	f.t.Helper()
	f.ask(reqGetFeatures, nil)
	f.ask(reqGetProtocolFeatures, nil)
	f.send(reqSetProtocolFeatures, msgVersion, words64(protocol))
	f.ask(reqGetQueueNum, nil)
	f.do(reqSetOwner, nil)
}

// addMemory shares the guest's memory.
func (f *frontend) addMemory() {
	f.t.Helper()
	f.do(reqAddMemReg, words64(0, guestBase, guestSize, userBase, 0), f.fd)
}

// A queue is the driver's side of a ring.
type queue struct {
	f                 *frontend
	index             uint32
	num               uint16
	desc, avail, used uint64 // offsets in f.mem
	kick, call        *os.File
	availIdx, usedIdx uint16
	events            bool
}

func (f *frontend) newQueue(index uint32, num uint16, events bool) *queue {
	n := uint64(num)
	return &queue{
		f: f, index: index, num: num, events: events,
		desc: f.alloc(16 * n), avail: f.alloc(6 + 2*n), used: f.alloc(6 + 8*n),
		kick: eventfd(f.t), call: eventfd(f.t),
	}
}

// start gives the ring to the device.
func (q *queue) start() {
	q.f.t.Helper()
	if err := q.tryStart(); err != nil {
		q.f.t.Fatal(err)
	}
}

func (q *queue) tryStart() error {
	i := q.index
	return errors.Join(
		q.f.try(reqSetVringNum, words32(i, uint32(q.num))),
		q.f.try(reqSetVringBase, words32(i, uint32(q.availIdx))),
		q.f.try(reqSetVringAddr, append(words32(i, 0), words64(userBase+q.desc, userBase+q.used, userBase+q.avail, 0)...)),
		q.f.try(reqSetVringKick, words64(uint64(i)), q.kick),
		q.f.try(reqSetVringCall, words64(uint64(i)), q.call),
		q.f.try(reqSetVringEnable, words32(i, 1)),
	)
}

// stop takes it back.
func (q *queue) stop() uint16 {
	q.f.t.Helper()
	return uint16(binary.LittleEndian.Uint32(q.f.ask(reqGetVringBase, words32(q.index, 0))[4:]))
}

// describe writes descriptor i of the table at offset table.
func (f *frontend) describe(table uint64, i int, d descriptor) {
	b := f.mem[table+uint64(i)*descLen:]
	le := binary.LittleEndian
	le.PutUint64(b, d.addr)
	le.PutUint32(b[8:], d.length)
	le.PutUint16(b[12:], d.flags)
	le.PutUint16(b[14:], d.next)
}

// offer makes a chain available and kicks if the device wants to know.
func (q *queue) offer(heads ...uint16) {
	old := q.availIdx
	for _, h := range heads {
		binary.LittleEndian.PutUint16(q.f.mem[q.avail+4+2*uint64(q.availIdx%q.num):], h)
		q.availIdx++
	}
	atomic.StoreUint32(q.word(q.avail), uint32(q.availIdx)<<16)
	if q.events {
		event := load16(q.f.mem, int(q.used)+4+8*int(q.num))
		if q.availIdx-event-1 >= q.availIdx-old {
			return
		}
	} else if atomic.LoadUint32(q.word(q.used))&1 != 0 {
		return
	}
	q.kick.Write(one)
}

func (q *queue) word(o uint64) *uint32 { return (*uint32)(unsafe.Pointer(&q.f.mem[o])) }

// take returns the next used element. Without one it asks for an interrupt.
func (q *queue) take() (head uint16, n int, ok bool) {
	for try := 0; ; try++ {
		if load16(q.f.mem, int(q.used)+2) != q.usedIdx {
			break
		}
		if try > 0 {
			return 0, 0, false
		}
		if q.events {
			binary.LittleEndian.PutUint16(q.f.mem[q.avail+4+2*uint64(q.num):], q.usedIdx)
			atomic.AddUint32(&fenceWord, 1)
		}
	}
	e := q.f.mem[q.used+4+8*uint64(q.usedIdx%q.num):]
	q.usedIdx++
	return uint16(binary.LittleEndian.Uint32(e)), int(binary.LittleEndian.Uint32(e[4:])), true
}

var fenceWord uint32

// wait waits for an interrupt.
func (q *queue) wait() error {
	var b [8]byte
	_, err := q.call.Read(b[:])
	return err
}
