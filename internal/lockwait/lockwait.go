// Package lockwait is what a host and the agent of its guest say to each other
// of threads that wait for a lock of a shared file.
//
// A thread of the guest that waits in a request of virtio-fs waits until it is
// answered: the guest's kernel neither tells the host that a signal is there nor
// lets the thread die. The host, which could answer that the wait was
// interrupted, does not know of the signal. So the agent connects to [Port], and
// the host asks it:
//
//	host -> agent   64 × 4 bytes  thread ids, little-endian; 0 is none
//	agent -> host   8 bytes       little-endian; bit n is set if thread n of the
//	                              question has a signal that ends its wait
//
// One question follows the answer of the one before. Both have one size, so
// there is nothing in them that could be malformed.
//
//	which, err := lockwait.Ask(conn, threads)      // the host
//	err := lockwait.Answer(conn, signals.Pending)  // the agent, for ever
package lockwait

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Port is the host's vsock port that the agent connects to.
const Port uint32 = 565

// Max is how many threads a question can have.
const Max = 64

// Ask asks for at most [Max] threads and returns which of them, by their places,
// have a signal.
func Ask(c io.ReadWriter, threads []uint32) (which []int, err error) {
	if len(threads) > Max {
		return nil, fmt.Errorf("asking for %d threads: at most %d are possible", len(threads), Max)
	}
	q := make([]byte, 0, 4*Max)
	for _, t := range threads {
		q = binary.LittleEndian.AppendUint32(q, t)
	}
	if _, err := c.Write(q[:cap(q)]); err != nil {
		return nil, err
	}
	var a [8]byte
	if _, err := io.ReadFull(c, a[:]); err != nil {
		return nil, err
	}
	bits := binary.LittleEndian.Uint64(a[:])
	for n := range threads {
		if bits>>n&1 != 0 {
			which = append(which, n)
		}
	}
	return which, nil
}

// Answer answers questions until the connection ends, and returns why it did.
func Answer(c io.ReadWriter, pending func(thread uint32) bool) error {
	for {
		var q [4 * Max]byte
		if _, err := io.ReadFull(c, q[:]); err != nil {
			return err
		}
		var bits uint64
		for n := range Max {
			if t := binary.LittleEndian.Uint32(q[4*n:]); t != 0 && pending(t) {
				bits |= 1 << n
			}
		}
		if _, err := c.Write(binary.LittleEndian.AppendUint64(nil, bits)); err != nil {
			return err
		}
	}
}
