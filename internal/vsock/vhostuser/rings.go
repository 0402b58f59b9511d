//go:build linux

package vhostuser

import "github.com/byrevm/byre/internal/virtio"

// The rings, by index; QEMU keeps the third one, of events. They run together or
// not at all.
const (
	ringReceive = iota
	ringTransmit
)

// maxDrain is how many packets are taken from the guest before its ring is
// stopped, the largest ring full.
const maxDrain = 1024

// kicks looks at a ring whenever the guest kicks.
func (d *Device) kicks(ring int, k *virtio.Kick) {
	if ring == ringTransmit {
		d.lead(k)
		return
	}
	go func() {
		defer k.Free()
		for d.b.Wait(k) {
			d.rx.pump()
		}
	}()
}

// drain takes what the guest sent before it stopped.
func (d *Device) drain() { d.tx.take(maxDrain) }

// settled makes the device usable, or not, after QEMU has changed a ring.
func (d *Device) settled(up bool) {
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
}

// halted ends every connection; QEMU goes, or starts anew.
func (d *Device) halted(err error) {
	if d.b.Ended() != nil {
		err = gone{err}
	}
	d.reset(err)
}

// finish ends what is left after QEMU.
func (d *Device) finish(err error) {
	d.mu.Lock()
	close(d.ready)
	listeners := d.listeners
	d.listeners = map[uint32]*listener{}
	d.mu.Unlock()
	for _, l := range listeners {
		l.finish(gone{err})
	}
}
