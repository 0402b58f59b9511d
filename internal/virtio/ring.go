//go:build linux

package virtio

import (
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxRing is the largest ring taken, QEMU's own limit.
const maxRing = 1024

// A Ring is the device's side of one split virtqueue (VIRTIO 1.2 §2.7).
//
//	desc:  num * {addr u64, len u32, flags u16, next u16}
//	avail: flags u16, idx u16, ring num * u16, used_event u16     (the driver writes)
//	used:  flags u16, idx u16, ring num * {id u32, len u32}, avail_event u16
type Ring struct {
	sync.Mutex // guards everything below and all use of guest memory for this ring

	Buf Buffer // of Pop

	b    *Backend
	name string

	// What vhost-user messages said.
	num               uint16
	descAt, usedAt    uint64 // QEMU's addresses
	availAt           uint64
	addressed         bool
	enabled           bool
	kick              *Kick // nil: the ring is stopped
	call              int   // eventfd, -1 for none
	indirect, events  bool  // features
	next              uint16
	usedIdx, signaled uint16
	quiet             bool // the driver need not kick (without events)
	fresh             bool // no signal since the ring started

	// The tables in memory; desc is nil while they are not mapped.
	mem               *memory
	last              *region
	desc, avail, used []byte

	running bool // it can be used, and what must run with it
	broken  bool // for good: the driver or its memory is at fault
	fence   uint32
}

// Running reports whether the ring can be used.
func (r *Ring) Running() bool { return r.running }

// Stopped reports whether QEMU has stopped the ring, or never started it.
func (r *Ring) Stopped() bool { return r.kick == nil }

// Size is how many descriptors the ring has.
func (r *Ring) Size() int { return int(r.num) }

// Waiting reports whether the driver has made something available.
func (r *Ring) Waiting() bool { return load16(r.avail, 2) != r.next }

// Unsignaled is how many buffers were pushed since the last Signal.
func (r *Ring) Unsignaled() int { return int(r.usedIdx - r.signaled) }

// Leave ends a method that locked the ring to touch guest memory: it is deferred
// with the goroutine's former fault setting, and unlocks. Guest memory that went
// away under the method ends the device.
//
//	r.Lock()
//	defer r.Leave(debug.SetPanicOnFault(true))
func (r *Ring) Leave(old bool) {
	debug.SetPanicOnFault(old)
	v := recover()
	if v != nil {
		r.Fail()
	}
	r.Unlock()
	r.b.fault(v)
}

// start reads where the device left off; the ring must be mapped.
func (r *Ring) start() {
	r.usedIdx = load16(r.used, 2)
	r.signaled, r.fresh = r.usedIdx, true
	r.quiet = false
}

// remap looks for the tables in mem. Without them the ring rests until another
// memory has them.
func (r *Ring) remap(mem *memory) (err error) {
	was := r.running
	r.unmap()
	r.mem = mem
	if !r.addressed || r.num == 0 {
		return nil
	}
	n := uint64(r.num)
	desc, err1 := mem.user(r.descAt, descLen*n, false)
	avail, err2 := mem.user(r.availAt, 4+2*n+2, false)
	used, err3 := mem.user(r.usedAt, 4+8*n+2, true)
	if err := errors.Join(err1, err2, err3); err != nil {
		return fmt.Errorf("%s ring: %w", r.name, err)
	}
	// §2.7: 16, 2 and 4; avail's first word is read as one.
	if align(desc)%16 != 0 || align(avail)%4 != 0 || align(used)%4 != 0 {
		return fmt.Errorf("%s ring: misaligned", r.name)
	}
	r.desc, r.avail, r.used = desc, avail, used
	r.running = was
	return nil
}

// unmap forgets all guest memory; the ring rests.
func (r *Ring) unmap() {
	r.running = false
	r.Buf.reset()
	r.mem, r.last = nil, nil
	r.desc, r.avail, r.used = nil, nil, nil
}

func align(b []byte) uintptr { return uintptr(unsafe.Pointer(&b[0])) }

// Fail ends the ring's use for good.
func (r *Ring) Fail() { r.running, r.broken = false, true }

// Pop takes the next available buffer into r.Buf; false when there is none. An
// error means that the driver is broken.
func (r *Ring) Pop() (bool, error) { return r.pop(&r.Buf) }

// Unpop makes the buffer of Pop the next one again.
func (r *Ring) Unpop() { r.next-- }

// Push gives r.Buf back, with n bytes written to it.
func (r *Ring) Push(n int) { r.push(r.Buf.head, n) }

func (r *Ring) pop(to *Buffer) (bool, error) {
	idx := load16(r.avail, 2) // acquires the entries before it
	n := idx - r.next
	if n == 0 {
		return false, nil
	}
	if n > r.num {
		return false, fmt.Errorf("%s ring: available index %d after %d", r.name, idx, r.next)
	}
	head := load16(r.avail, 4+2*int(r.next&(r.num-1)))
	r.next++
	to.reset()
	to.head = head
	if err := r.walk(head, to); err != nil {
		return false, fmt.Errorf("%s ring: %w", r.name, err)
	}
	return true, nil
}

func (r *Ring) push(head uint16, n int) {
	e := r.used[4+8*int(r.usedIdx&(r.num-1)):]
	*(*uint32)(unsafe.Pointer(&e[0])) = uint32(head)
	*(*uint32)(unsafe.Pointer(&e[4])) = uint32(n)
	r.usedIdx++
	r.publish()
}

// publish writes flags and idx of the used ring, releasing the entries.
func (r *Ring) publish() {
	w := uint32(r.usedIdx) << 16
	if r.quiet {
		w |= 1 // VIRTQ_USED_F_NO_NOTIFY
	}
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&r.used[0])), w)
}

// WantKick asks the driver to kick for the next chain (§2.7.10). The caller
// checks the ring once more afterwards.
func (r *Ring) WantKick() {
	if r.events {
		*(*uint16)(unsafe.Pointer(&r.used[4+8*int(r.num)])) = r.next
	} else {
		r.quiet = false
		r.publish()
	}
	// The write before every later read, on any processor: a store and a load
	// that are sequentially consistent are never exchanged.
	atomic.StoreUint32(&r.fence, 1)
	atomic.LoadUint32(&r.fence)
}

// NeedNoKick tells the driver that the device is looking anyway. With events
// there is nothing to do: the driver kicks once for each WantKick.
func (r *Ring) NeedNoKick() {
	if !r.events && !r.quiet {
		r.quiet = true
		r.publish()
	}
}

// Signal interrupts the guest for what was pushed since the last time, if it
// wants to know (§2.7.7).
func (r *Ring) Signal() {
	old, now := r.signaled, r.usedIdx
	if old == now {
		return
	}
	r.signaled = now
	// publish was a sequentially consistent store; what follows reads after it.
	if r.events {
		event := load16(r.avail, 4+2*int(r.num))
		if !r.fresh && now-event-1 >= now-old {
			return
		}
	} else if load16(r.avail, 0)&1 != 0 { // VIRTQ_AVAIL_F_NO_INTERRUPT
		return
	}
	r.fresh = false
	notify(r.call)
}

// load16 reads the 16-bit word at b[o] atomically; it is aligned. Go has no such
// load, so it reads the 32-bit word around it, which is on the same page.
func load16(b []byte, o int) uint16 {
	p := unsafe.Pointer(&b[o : o+2][0])
	odd := uintptr(p) & 2
	return uint16(atomic.LoadUint32((*uint32)(unsafe.Add(p, -int(odd)))) >> (8 * odd))
}

var one = []byte{1, 0, 0, 0, 0, 0, 0, 0}

// notify adds one to an eventfd. The descriptor does not block; a full counter
// is already a notification.
func notify(fd int) {
	if fd >= 0 {
		_, _ = unix.Write(fd, one)
	}
}
