package bridge

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A pipeListener accepts what dial opens.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipeListener) Addr() net.Addr { return nil }

// A guest that never connects the streams of a process holds nobody: reads
// end when the process, the bridge or the handle does (B51c).
func TestNeverConnected(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(*Client, *peer, frame, io.Closer)
		took time.Duration
		want error
	}{
		"exit": {func(_ *Client, p *peer, wait frame, _ io.Closer) {
			p.answer(wait, &WaitForProcessResponse{})
		}, connectGrace, errNeverConnected},
		"exit is unknown": {func(_ *Client, p *peer, wait frame, _ io.Closer) {
			p.answer(wait, &Response{Result: ErrElementNotFound})
		}, 0, ErrElementNotFound},
		"bridge ends": {func(_ *Client, p *peer, _ frame, _ io.Closer) { p.conn.Close() }, 0, ErrClosed},
		"client ends": {func(c *Client, _ *peer, _ frame, _ io.Closer) { c.Close() }, 0, ErrClosed},
		"handle ends": {func(_ *Client, _ *peer, _ frame, p io.Closer) { p.Close() }, 0, net.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var ls []*pipeListener
				cl, p := connect(t, Config{Listen: func(uint32) (net.Listener, error) {
					ls = append(ls, newPipeListener())
					return ls[len(ls)-1], nil
				}}, linux)
				waits := make(chan frame, 1)
				go func() {
					f, _ := read(p, ExecuteProcess)
					p.answer(f, &ExecuteProcessResponse{ProcessID: 1})
					waits <- p.next()
				}()
				proc, err := cl.CreateProcess(t.Context(), map[string]bool{"CreateStdInPipe": true, "CreateStdOutPipe": true, "CreateStdErrPipe": true})
				if err != nil {
					t.Fatal(err)
				}
				in, out, errs := proc.Stdio()
				start := time.Now()
				var wg sync.WaitGroup
				wg.Go(func() {
					if _, err := io.ReadAll(out); !errors.Is(err, c.want) {
						t.Errorf("stdout: got %v, want %v", err, c.want)
					}
				})
				wg.Go(func() {
					if _, err := io.ReadAll(errs); !errors.Is(err, c.want) {
						t.Errorf("stderr: got %v, want %v", err, c.want)
					}
				})
				wg.Go(func() {
					if _, err := in.Write([]byte{0}); !errors.Is(err, c.want) {
						t.Errorf("stdin: got %v, want %v", err, c.want)
					}
				})
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					if err := proc.CloseStdin(ctx); err == nil && c.took == 0 {
						t.Error("stdin was closed")
					}
				})
				synctest.Wait()
				c.end(cl, p, <-waits, proc)
				wg.Wait()
				if took := time.Since(start); took != c.took {
					t.Errorf("took %v, want %v", took, c.took)
				}
				for _, l := range ls {
					<-l.done
				}
				proc.Close()
				cl.Close()
				p.conn.Close()
			})
		})
	}
}

// B48, B49: stdin is closed in one direction only; a stream whose reading
// failed is closed as a whole.
func TestStreamCloses(t *testing.T) {
	l := newPipeListener()
	cl, p := connect(t, Config{Listen: func(uint32) (net.Listener, error) { return l, nil }}, linux)
	s, err := cl.open()
	if err != nil {
		t.Fatal(err)
	}
	h, g := net.Pipe()
	hc := &halfConn{Conn: h}
	l.conns <- hc
	if err := s.CloseWrite(t.Context()); err != nil || !hc.half {
		t.Errorf("close of stdin: %v, half-closed: %v", err, hc.half)
	}
	g.Close()
	if _, err := s.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read: %v", err)
	}
	if _, err := h.Write([]byte{0}); err != io.ErrClosedPipe {
		t.Errorf("the connection is open after the end of file: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if cl.ports.used[s.port] {
		t.Error("the port is still taken")
	}
	p.conn.Close()
}

type halfConn struct {
	net.Conn
	half bool
}

func (c *halfConn) CloseWrite() error { c.half = true; return nil }

func TestNoListen(t *testing.T) {
	cl, _ := connect(t, Config{}, linux)
	if _, err := cl.CreateProcess(t.Context(), map[string]bool{"CreateStdOutPipe": true}); !errors.Is(err, errNoListen) {
		t.Errorf("without Listen: %v", err)
	}
	cause := errors.New("no sockets today")
	n := 0
	cl, _ = connect(t, Config{Listen: func(uint32) (net.Listener, error) {
		if n++; n == 2 {
			return nil, cause
		}
		return newPipeListener(), nil
	}}, linux)
	if _, err := cl.CreateProcess(t.Context(), map[string]bool{"CreateStdInPipe": true, "CreateStdOutPipe": true}); !errors.Is(err, cause) {
		t.Errorf("Listen failed: %v", err)
	}
	cl.Close() // waits for what accepts
	if len(cl.ports.used) != 0 {
		t.Errorf("ports in use: %v", cl.ports.used)
	}
}
