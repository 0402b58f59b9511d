package qemu

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	backlogSize = 64 << 10 // of console text that a late client still gets
	clientQueue = 256      // pieces that a client may be behind
)

// A console is the guest's serial port. Its last lines are kept; if the
// document has a path for it, one client at a time is served there, and gets
// what is kept first. The guest never waits for a client.
type console struct {
	text     lines
	conn     net.Conn      // QEMU
	listener net.Listener  // nil without a path
	done     chan struct{} // closed when QEMU has gone and all is read
	wg       sync.WaitGroup

	mu      sync.Mutex
	backlog []byte
	client  chan []byte // nil without a client, closed by done
}

// newConsole serves the serial port behind ours, and path unless it is "". It
// owns ours, also if it fails.
func newConsole(ctx context.Context, ours *os.File, path string) (*console, error) {
	defer ours.Close()
	c := &console{done: make(chan struct{})}
	var err error
	if c.conn, err = net.FileConn(ours); err != nil {
		return nil, fmt.Errorf("opening the console: %w", err)
	}
	if path != "" {
		if c.listener, err = listenPrivate(ctx, path); err != nil {
			c.conn.Close()
			return nil, fmt.Errorf("listening for the console: %w", err)
		}
		c.wg.Go(c.serve)
	}
	go c.read()
	return c, nil
}

// listenPrivate makes a socket that only this user can connect to, from its
// first moment: bind gives the file the mode of the socket.
func listenPrivate(ctx context.Context, path string) (net.Listener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		if e := raw.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }); e != nil {
			return e
		}
		return err
	}}
	return lc.Listen(ctx, "unix", path)
}

// read takes what the guest writes until QEMU goes.
func (c *console) read() {
	buf := make([]byte, 4096)
	for {
		n, err := c.conn.Read(buf)
		c.text.Write(buf[:n])
		c.pass(buf[:n])
		if err != nil {
			break
		}
	}
	close(c.done)
	c.mu.Lock()
	if c.client != nil {
		close(c.client)
		c.client = nil
	}
	c.mu.Unlock()
	if c.listener != nil {
		c.listener.Close()
	}
	c.conn.Close()
}

// pass keeps text for a client to come and hands it to the one that is there,
// who loses what it is too slow for.
func (c *console) pass(p []byte) {
	if c.listener == nil || len(p) == 0 {
		return
	}
	p = append([]byte(nil), p...)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.backlog = append(c.backlog, p...)
	if extra := len(c.backlog) - backlogSize; extra > 0 {
		c.backlog = append(c.backlog[:0], c.backlog[extra:]...)
	}
	select {
	case c.client <- p: // blocks if there is none
	default:
	}
}

// serve takes one client after the other.
func (c *console) serve() {
	for {
		conn, err := c.listener.Accept()
		if err != nil {
			return
		}
		c.attach(conn)
	}
}

// attach serves a client until it or the guest goes.
func (c *console) attach(conn net.Conn) {
	queue := make(chan []byte, clientQueue)
	c.mu.Lock()
	backlog := append([]byte(nil), c.backlog...)
	select {
	case <-c.done:
		close(queue)
	default:
		c.client = queue
	}
	c.mu.Unlock()

	var wg sync.WaitGroup
	wg.Go(func() { // what the client types; ends when conn or the guest ends
		io.Copy(c.conn, conn)
		c.detach(queue)
	})
	_, err := conn.Write(backlog)
	for p := range queue {
		if err == nil {
			_, err = conn.Write(p)
		}
		if err != nil {
			c.detach(queue)
		}
	}
	conn.Close()
	wg.Wait()
}

// detach ends the queue of a client, if that has not been done.
func (c *console) detach(queue chan []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client == queue {
		close(queue)
		c.client = nil
	}
}

// close waits until everything has ended; QEMU must have.
func (c *console) close() {
	c.conn.Close()
	<-c.done
	c.wg.Wait()
}
