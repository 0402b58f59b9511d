package bridge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
)

// A stream is stdin, stdout or stderr of a process: a connection that the
// guest opens. Until then reads and writes wait.
type stream struct {
	l     net.Listener
	port  uint32
	ready chan struct{} // closed when conn or err has been set

	mu     sync.Mutex // guards what follows
	conn   net.Conn   // nil before ready, and if there never was one
	err    error      // why there is no connection, or no more to read
	closed bool       // conn has been closed
}

var errNoListen = errors.New("this bridge has no streams")

// open starts to listen for a stream.
func (c *Client) open() (*stream, error) {
	if c.config.Listen == nil {
		return nil, errNoListen
	}
	port, err := c.ports.take()
	if err != nil {
		return nil, err
	}
	l, err := c.config.Listen(port)
	if err != nil {
		c.ports.free(port)
		return nil, fmt.Errorf("listening for a stream: %w", err)
	}
	s := &stream{ready: make(chan struct{}), l: l, port: port}
	c.mu.Lock()
	if err = c.err; err == nil {
		c.streams[s] = true
		c.wg.Go(func() { c.accept(s) })
	}
	c.mu.Unlock()
	if err != nil {
		l.Close()
		c.ports.free(port)
		return nil, err
	}
	return s, nil
}

func (c *Client) accept(s *stream) {
	conn, err := s.l.Accept()
	s.l.Close()
	c.ports.free(s.port)
	s.set(conn, err)
	c.mu.Lock()
	delete(c.streams, s)
	c.mu.Unlock()
}

// set ends the wait for a connection. The first call counts.
func (s *stream) set(conn net.Conn, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.ready:
		if conn != nil {
			conn.Close()
		}
		return
	default:
	}
	s.conn, s.err = conn, err
	close(s.ready)
}

// fail ends the wait for a connection, if there is none yet.
func (s *stream) fail(err error) {
	if s != nil {
		s.set(nil, err)
		s.l.Close()
	}
}

// connected reports whether the wait for a connection has ended.
func (s *stream) connected() bool {
	if s == nil {
		return true
	}
	select {
	case <-s.ready:
		return true
	default:
		return false
	}
}

// Close closes listener and connection. A second call does nothing.
func (s *stream) Close() error {
	if s == nil {
		return nil
	}
	s.fail(net.ErrClosed)
	return s.hangUp(net.ErrClosed)
}

// hangUp closes the connection, once. From now on reads fail with err, or
// with what they failed with first.
func (s *stream) hangUp(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	if s.closed || s.conn == nil {
		return nil
	}
	s.closed = true
	return s.conn.Close()
}

func (s *stream) get() (net.Conn, error) {
	<-s.ready
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn, s.err
}

// Read reads what the process writes. When there is no more, for whatever
// reason, it closes the connection at once: the guest takes that as a sign
// that everything was read, and waits for it before it reports the exit.
func (s *stream) Read(b []byte) (int, error) {
	conn, err := s.get()
	if err != nil {
		return 0, err
	}
	n, err := conn.Read(b)
	if err != nil {
		s.hangUp(err)
	}
	return n, err
}

// Write writes what the process reads.
func (s *stream) Write(b []byte) (int, error) {
	conn, err := s.get()
	if err != nil {
		return 0, err
	}
	return conn.Write(b)
}

// CloseWrite shuts the direction to the process down, once the guest has
// connected.
func (s *stream) CloseWrite(ctx context.Context) error {
	select {
	case <-s.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	conn, err := s.get()
	if err != nil {
		return err
	}
	if cw, ok := conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return conn.Close()
}
