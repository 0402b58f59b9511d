//go:build linux

package vhostuser

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"syscall"

	"golang.org/x/sys/unix"
)

func (d *Device) ring(i uint32) (*ring, error) {
	switch i {
	case 0:
		return &d.rx.ring, nil
	case 1:
		return &d.tx.ring, nil
	}
	return nil, fmt.Errorf("no ring %d", i)
}

// setVringState handles the requests of {index u32, number u32}.
func (d *Device) setVringState(m *message) error {
	if err := m.want(8, 0); err != nil {
		return err
	}
	r, err := d.ring(m.u32(0))
	if err != nil {
		return err
	}
	n := m.u32(4)
	r.mu.Lock()
	switch {
	case m.request == reqSetVringEnable && n <= 1:
		r.enabled = n == 1
	case m.request != reqSetVringEnable && r.kick != nil:
		err = errors.New("the ring is running")
	case m.request == reqSetVringNum && n > 0 && n <= maxRing && n&(n-1) == 0:
		r.num = uint16(n)
		r.addressed = false
	case m.request == reqSetVringBase && n <= 0xffff:
		r.next = uint16(n)
	default:
		err = fmt.Errorf("ring value %d out of range", n)
	}
	r.mu.Unlock()
	d.settle()
	return err
}

// setVringAddr says where the tables are: index u32, flags u32, then u64
// addresses of descriptors, used, available, log, in QEMU's address space.
func (d *Device) setVringAddr(m *message) error {
	if err := m.want(40, 0); err != nil {
		return err
	}
	r, err := d.ring(m.u32(0))
	if err != nil {
		return err
	}
	if m.u32(4) != 0 {
		return errors.New("logging was not offered")
	}
	r.mu.Lock()
	if r.num == 0 {
		err = errors.New("the ring has no size")
	} else {
		r.descAt, r.usedAt, r.availAt = m.u64(8), m.u64(16), m.u64(24)
		r.addressed = true
		err = r.remap(d.mem)
	}
	r.mu.Unlock()
	d.settle()
	return err
}

// setVringFile takes an eventfd: number u64, its low byte the ring; bit 8 says
// that there is none.
func (d *Device) setVringFile(m *message) error {
	if len(m.payload) != 8 {
		return m.want(8, 1)
	}
	v := m.u64(0)
	none := v&0x100 != 0
	if v>>9 != 0 || none == (len(m.fds) == 1) || len(m.fds) > 1 {
		return fmt.Errorf("ring file %#x with %d descriptors", v, len(m.fds))
	}
	r, err := d.ring(uint32(v & 0xff))
	if err != nil {
		return err
	}
	switch {
	case m.request == reqSetVringKick && none:
		return errors.New("polling is not supported")
	case m.request == reqSetVringKick:
		k, err := m.takeKick()
		if err != nil {
			return err
		}
		d.startRing(r, k)
	case m.request == reqSetVringCall:
		fd := -1
		if !none {
			fd = m.fds[0]
			if err := unix.SetNonblock(fd, true); err != nil {
				return err
			}
			m.fds = m.fds[:0]
		}
		r.mu.Lock()
		r.setCall(fd)
		r.mu.Unlock()
	}
	d.settle() // the descriptor for errors is not used
	return nil
}

// setCall replaces the eventfd that interrupts the guest. An interrupt more is
// harmless, one less is not.
func (r *ring) setCall(fd int) {
	if r.call >= 0 {
		_ = unix.Close(r.call)
	}
	r.call = fd
	notify(fd)
}

// startRing replaces the eventfd that the guest kicks; with it, the ring starts.
func (d *Device) startRing(r *ring, k *kick) {
	r.mu.Lock()
	old := r.kick
	r.kick = k
	if r.desc == nil {
		_ = r.remap(d.mem) // without its tables it rests
	}
	r.mu.Unlock()
	if old != nil {
		old.close() // and its goroutine ends
	}
	if r == &d.tx.ring {
		d.lead(k)
		return
	}
	d.kicks.Go(func() {
		defer k.free()
		for d.waitKick(k) {
			d.rx.pump()
		}
	})
}

// waitKick waits until the guest kicks; false when the ring was stopped.
func (d *Device) waitKick(k *kick) bool {
	err := k.wait()
	if err != nil && !errors.Is(err, os.ErrClosed) {
		d.stop(fmt.Errorf("waiting for the guest: %w", err))
	}
	return err == nil
}

// getVringBase stops a ring and tells how far it came. The guest's driver has
// gone, or the VM was stopped: every connection ends.
func (d *Device) getVringBase(m *message) ([]byte, error) {
	if err := m.want(8, 0); err != nil {
		return nil, err
	}
	r, err := d.ring(m.u32(0))
	if err != nil {
		return nil, err
	}
	d.drain()
	r.mu.Lock()
	r.stop()
	next := r.next
	r.mu.Unlock()
	d.settle()
	d.reset(syscall.ECONNRESET)
	return u64(uint64(m.u32(0)) | uint64(next)<<32), nil
}

// stop ends the ring's use until the next kick descriptor.
func (r *ring) stop() {
	if r.kick != nil {
		r.kick.close()
		r.kick = nil
	}
	if r.call >= 0 {
		_ = unix.Close(r.call)
		r.call = -1
	}
	r.unmap()
}

// halt stops both rings and ends every connection.
func (d *Device) halt(err error) {
	d.drain()
	for _, r := range []*ring{&d.tx.ring, &d.rx.ring} {
		r.mu.Lock()
		r.stop()
		r.mu.Unlock()
	}
	d.settle()
	d.reset(err)
}

// drain takes what the guest sent before it stopped: at most one ring full.
func (d *Device) drain() { d.tx.take(maxRing) }

// settle makes the device usable, or not, after a message has changed a ring.
func (d *Device) settle() {
	up, began := d.run()
	d.mu.Lock()
	was := d.up
	d.up = up
	switch {
	case up && !was:
		close(d.ready)
	case !up && was:
		d.ready = make(chan struct{})
	}
	d.mu.Unlock()
	if up != was {
		d.log.Debug("vsock driver changed", "up", up)
	}
	if began { // kicks may have come too early
		d.tx.kick.nudge()
		d.rx.kick.nudge()
	}
}

// run sets the rings running if both can, and says whether they do and whether
// that is new.
func (d *Device) run() (up, began bool) {
	d.tx.mu.Lock()
	defer d.tx.mu.Unlock()
	d.rx.mu.Lock()
	defer d.rx.leave(debug.SetPanicOnFault(true))
	was := d.tx.running && d.rx.running
	up = d.usable(&d.tx.ring) && d.usable(&d.rx.ring)
	if up && !was {
		for _, r := range []*ring{&d.tx.ring, &d.rx.ring} {
			r.indirect = d.features&featIndirect != 0
			r.events = d.features&featEvents != 0
			r.start()
		}
	}
	if d.tx.kick == nil || d.rx.kick == nil {
		d.rx.drop()
	}
	d.tx.running, d.rx.running = up, up
	return up, up && !was
}

// usable reports whether the ring can be used. Without protocol features rings
// are always enabled.
func (d *Device) usable(r *ring) bool {
	return !r.broken && r.kick != nil && r.desc != nil && (r.enabled || d.features&featProtocol == 0)
}
