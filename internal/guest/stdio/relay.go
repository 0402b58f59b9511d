//go:build linux

package stdio

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A relay begins with a small buffer and has a larger one when it is filled:
// most processes write little, and those that write much are held up by every
// switch between them and the relay, so that takes all that a pipe holds. Only
// a few relays at a time have the largest: the agent's memory is bounded.
const (
	minBuffer    = 16 << 10
	sharedBuffer = 256 << 10 // the largest that any number may have
	maxBuffer    = pipeSize
)

// largest counts the relays with more than a sharedBuffer.
var largest = make(chan struct{}, 8)

// transfer copies src to dst to its end.
func transfer(dst io.Writer, src io.Reader) error {
	b := make([]byte, minBuffer)
	for {
		n, err := src.Read(b)
		if n > 0 {
			if _, err := dst.Write(b[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case n < len(b) || n == maxBuffer:
		case n < sharedBuffer:
			b = make([]byte, 4*n)
		default:
			select {
			case largest <- struct{}{}:
				defer func() { <-largest }() // once: no buffer is larger
				b = make([]byte, maxBuffer)
				if d, err := newDrain(src); err == nil {
					defer d.Close()
					src = d
					ahead()
				}
			default:
			}
		}
	}
}

// output carries what a process writes to the host, and returns when the host
// has all of it. A host that is gone is a broken pipe to the process. Without
// connection the output is thrown away.
//
// It reads and writes blocking descriptors, each relay in a thread of its own:
// going through the poller for every chunk costs several times as much, and an
// output is never broken off from here.
func output(name string, conn Conn, r *os.File, log *slog.Logger) {
	defer r.Close()
	if conn == nil {
		_ = transfer(io.Discard, r)
		return
	}
	w, err := duplicate(conn)
	conn.Close()
	if err != nil {
		log.Warn("output relay did not start", "stream", name, "err", err)
		return
	}
	defer w.Close()
	// The far side of a terminal ends with EIO.
	if err := transfer(w, r); err != nil && !errors.Is(err, unix.EIO) {
		log.Debug("output relay ended early", "stream", name, "err", err)
		return
	}
	if err := unix.Shutdown(int(w.Fd()), unix.SHUT_WR); err != nil {
		log.Debug("output relay was cut off", "stream", name, "err", err)
		return
	}
	var b [1]byte
	if n, err := w.Read(b[:]); n != 0 || !errors.Is(err, io.EOF) {
		log.Debug("host did not end output stream properly", "stream", name, "bytes", n, "err", err)
	}
}

// An input carries what the host sends to a process.
type input struct {
	conn Conn
	w    io.Writer
	end  func() // called when the host has sent everything
	done chan struct{}
}

func newInput(conn Conn, w io.Writer, end func()) *input {
	i := &input{conn: conn, w: w, end: end, done: make(chan struct{})}
	go func() {
		defer close(i.done)
		_ = transfer(i.w, i.conn) // either end may be gone: that is how input ends
		i.end()
	}()
	return i
}

// stop ends the input of a process that is gone. The caller has closed w, or
// made sure that writing to it does not block.
func (i *input) stop() {
	i.conn.CloseRead()
	i.conn.SetReadDeadline(time.Unix(1, 0))
	<-i.done
	i.conn.Close()
}
