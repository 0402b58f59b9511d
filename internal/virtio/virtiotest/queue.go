//go:build linux

package virtiotest

import (
	"encoding/binary"
	"errors"
	"os"
	"sync/atomic"
	"unsafe"
)

// DescLen is the size of a descriptor.
const DescLen = 16

// Flags of descriptors.
const (
	DescNext     = 1
	DescWrite    = 2
	DescIndirect = 4
)

// A Descriptor as it lies in the table: addr u64, len u32, flags u16, next u16.
type Descriptor struct {
	Addr   uint64
	Length uint32
	Flags  uint16
	Next   uint16
}

// A Queue is the driver's side of a ring.
type Queue struct {
	F                 *Frontend
	Index             uint32
	Num               uint16
	Desc, Avail, Used uint64 // offsets in F.Mem
	Kick, Call        *os.File
	AvailIdx, UsedIdx uint16
	Events            bool
}

// NewQueue lays out a ring of num descriptors.
func (f *Frontend) NewQueue(index uint32, num uint16, events bool) *Queue {
	n := uint64(num)
	return &Queue{
		F: f, Index: index, Num: num, Events: events,
		Desc: f.Alloc(DescLen * n), Avail: f.Alloc(6 + 2*n), Used: f.Alloc(6 + 8*n),
		Kick: Eventfd(f.T), Call: Eventfd(f.T),
	}
}

// Start gives the ring to the device.
func (q *Queue) Start() {
	q.F.T.Helper()
	if err := q.TryStart(); err != nil {
		q.F.T.Fatal(err)
	}
}

// TryStart is Start that may be refused.
func (q *Queue) TryStart() error { return q.tryStart(q.AvailIdx) }

// Resume gives the ring to the device where it had stopped.
func (q *Queue) Resume(base uint16) {
	q.F.T.Helper()
	if err := q.tryStart(base); err != nil {
		q.F.T.Fatal(err)
	}
}

func (q *Queue) tryStart(base uint16) error {
	i := q.Index
	return errors.Join(
		q.F.Try(SetVringNum, Words32(i, uint32(q.Num))),
		q.F.Try(SetVringBase, Words32(i, uint32(base))),
		q.F.Try(SetVringAddr, append(Words32(i, 0), Words64(UserBase+q.Desc, UserBase+q.Used, UserBase+q.Avail, 0)...)),
		q.F.Try(SetVringKick, Words64(uint64(i)), q.Kick),
		q.F.Try(SetVringCall, Words64(uint64(i)), q.Call),
		q.F.Try(SetVringEnable, Words32(i, 1)),
	)
}

// Stop takes it back.
func (q *Queue) Stop() uint16 {
	q.F.T.Helper()
	return uint16(binary.LittleEndian.Uint32(q.F.Ask(GetVringBase, Words32(q.Index, 0))[4:]))
}

// Describe writes descriptor i of the table at offset table.
func (f *Frontend) Describe(table uint64, i int, d Descriptor) {
	b := f.Mem[table+uint64(i)*DescLen:]
	le := binary.LittleEndian
	le.PutUint64(b, d.Addr)
	le.PutUint32(b[8:], d.Length)
	le.PutUint16(b[12:], d.Flags)
	le.PutUint16(b[14:], d.Next)
}

// Offer makes a chain available and kicks if the device wants to know.
func (q *Queue) Offer(heads ...uint16) {
	old := q.AvailIdx
	for _, h := range heads {
		binary.LittleEndian.PutUint16(q.F.Mem[q.Avail+4+2*uint64(q.AvailIdx%q.Num):], h)
		q.AvailIdx++
	}
	atomic.StoreUint32(q.word(q.Avail), uint32(q.AvailIdx)<<16)
	if q.Events {
		event := load16(q.F.Mem, int(q.Used)+4+8*int(q.Num))
		if q.AvailIdx-event-1 >= q.AvailIdx-old {
			return
		}
	} else if atomic.LoadUint32(q.word(q.Used))&1 != 0 {
		return
	}
	q.DoKick()
}

func (q *Queue) word(o uint64) *uint32 { return (*uint32)(unsafe.Pointer(&q.F.Mem[o])) }

// Take returns the next used element. Without one it asks for an interrupt.
func (q *Queue) Take() (head uint16, n int, ok bool) {
	for try := 0; ; try++ {
		if load16(q.F.Mem, int(q.Used)+2) != q.UsedIdx {
			break
		}
		if try > 0 {
			return 0, 0, false
		}
		if q.Events {
			binary.LittleEndian.PutUint16(q.F.Mem[q.Avail+4+2*uint64(q.Num):], q.UsedIdx)
			atomic.AddUint32(&fenceWord, 1)
		}
	}
	e := q.F.Mem[q.Used+4+8*uint64(q.UsedIdx%q.Num):]
	q.UsedIdx++
	return uint16(binary.LittleEndian.Uint32(e)), int(binary.LittleEndian.Uint32(e[4:])), true
}

var fenceWord uint32

// Wait waits for an interrupt.
func (q *Queue) Wait() error {
	var b [8]byte
	_, err := q.Call.Read(b[:])
	return err
}

// DoKick kicks, whatever the device wants.
func (q *Queue) DoKick() { q.Kick.Write(Words64(1)) }

// load16 reads the 16-bit word at b[o] atomically; it is aligned.
func load16(b []byte, o int) uint16 {
	p := unsafe.Pointer(&b[o : o+2][0])
	odd := uintptr(p) & 2
	return uint16(atomic.LoadUint32((*uint32)(unsafe.Add(p, -int(odd)))) >> (8 * odd))
}

// Desc returns a descriptor.
func Desc(addr uint64, length uint32, flags, next uint16) Descriptor {
	return Descriptor{addr, length, flags, next}
}
