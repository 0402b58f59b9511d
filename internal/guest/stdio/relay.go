//go:build linux

package stdio

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// relaySize is the buffer of a relay: the largest packet of vsock.
const relaySize = 64 << 10

// buffers keeps the relays from asking for memory anew.
var buffers = sync.Pool{New: func() any { b := make([]byte, relaySize); return &b }}

// transfer copies src to dst to its end. It hides the methods by which io.Copy
// would copy piecemeal.
func transfer(dst io.Writer, src io.Reader) error {
	b := buffers.Get().(*[]byte)
	defer buffers.Put(b)
	_, err := io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, *b)
	return err
}

// output carries what a process writes to the host, and returns when the host
// has all of it. A host that is gone is a broken pipe to the process. Without
// connection the output is thrown away.
func output(name string, conn Conn, r *os.File, log *slog.Logger) {
	defer r.Close()
	if conn == nil {
		transfer(io.Discard, r)
		return
	}
	defer conn.Close()
	// The far side of a terminal ends with EIO.
	if err := transfer(conn, r); err != nil && !errors.Is(err, unix.EIO) {
		log.Debug("output relay ended early", "stream", name, "err", err)
		return
	}
	if err := conn.CloseWrite(); err != nil {
		log.Debug("output relay was cut off", "stream", name, "err", err)
		return
	}
	var b [1]byte
	if n, err := conn.Read(b[:]); n != 0 || !errors.Is(err, io.EOF) {
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
		transfer(i.w, i.conn) // either end may be gone: that is how input ends
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
