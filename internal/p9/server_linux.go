package p9

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"

	"github.com/byrevm/byre/internal/hostfs"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"
)

// Config are the limits of a [Server]. A zero value is a default.
type Config struct {
	Logger *slog.Logger // nil means slog.Default()

	// MaxMessage is the longest message, in bytes; clients may ask for less.
	// The default is 1 MiB, the least 4 KiB.
	MaxMessage int

	// MaxRequests is how many requests of a connection are worked on at a
	// time; more wait in the transport. The default is 16, the least 2.
	MaxRequests int

	// MaxFids is how many fids a connection may have, and a quarter of those of
	// all connections together; more are ENFILE. The default is 65536.
	MaxFids int

	// MaxFiles is how many descriptors the server may hold for all of its
	// clients; more are ENFILE. The default is half of what the process may
	// open when the server is made, 131072 at most.
	MaxFiles int

	// Files, if not nil, counts the descriptors instead: for all servers that
	// have it.
	Files *hostfs.Files

	// MaxConns is how many connections are served at a time; more are closed.
	// The default is 512: every mounted share has one.
	MaxConns int

	// MaxBuffers is the memory for the data of requests under way, of all
	// connections together; requests wait for it. The default is 64 MiB, the
	// least two messages.
	MaxBuffers int
}

func (c Config) withDefaults() Config {
	set := func(v *int, otherwise, least int) {
		if *v <= 0 {
			*v = otherwise
		}
		*v = max(*v, least)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	set(&c.MaxMessage, 1<<20, minMessage)
	set(&c.MaxRequests, 16, 2)
	set(&c.MaxFids, 1<<16, 1)
	set(&c.MaxConns, 512, 1)
	set(&c.MaxBuffers, 64<<20, 2*max(c.MaxMessage, smallBuffer))
	if c.Files == nil {
		c.Files = hostfs.NewFiles(c.MaxFiles)
	}
	return c
}

// A Server serves shares to the clients that connect. Its methods are safe
// for concurrent use.
type Server struct {
	config  Config
	log     *slog.Logger
	files   *hostfs.Files
	buffers *semaphore.Weighted
	fids    atomic.Int64 // of all connections
	xattrs  atomic.Int64 // bytes that fids hold of extended attributes

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // connections and calls of Serve

	mu     sync.Mutex // guards the rest; taken before conn.mu
	closed bool
	shares map[string]*hostfs.Tree
	conns  map[*conn]struct{}

	unlocked broadcast // a lock was given up
}

// NewServer returns a server without shares. The caller closes it.
func NewServer(c Config) *Server {
	c = c.withDefaults()
	s := &Server{
		config: c, log: c.Logger, files: c.Files, buffers: semaphore.NewWeighted(int64(c.MaxBuffers)),
		shares: make(map[string]*hostfs.Tree), conns: make(map[*conn]struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Add serves one more share. The folder is opened here, and stays the same
// whatever its path leads to later. A name that is taken is [fs.ErrExist], a
// path that is no folder an error of its own kind; then nothing has changed.
func (s *Server) Add(sh Share) error {
	t, err := s.files.Open(sh)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		err = net.ErrClosed
	case s.shares[sh.Name] != nil:
		err = errExist
	default:
		s.shares[sh.Name] = t
		return nil
	}
	t.Close()
	return fmt.Errorf("sharing %q: %w", sh.Name, err)
}

// Remove ends a share. When it returns, no file of it is open or will be
// touched any more; what clients ask of their fids is ESTALE from then on.
// A name that no share has is [fs.ErrNotExist].
func (s *Server) Remove(name string) error {
	s.mu.Lock()
	sh := s.shares[name]
	delete(s.shares, name)
	var conns []*conn
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	if sh == nil {
		return fmt.Errorf("removing %q: %w", name, errNotExist)
	}
	sh.End()
	for _, c := range conns {
		c.drop(sh)
	}
	sh.Close()
	return nil
}

// Serve serves every connection that l accepts, until ctx ends, l fails or
// the server is closed. It closes l. The error is nil after Close.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	if !s.begin() {
		l.Close()
		return net.ErrClosed
	}
	defer s.wg.Done()
	defer l.Close()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	defer context.AfterFunc(s.ctx, func() { l.Close() })()
	for {
		nc, err := l.Accept()
		switch {
		case err == nil:
		case s.ctx.Err() != nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		default:
			return err
		}
		if !s.begin() {
			nc.Close()
			return nil
		}
		go func() {
			defer s.wg.Done()
			if err := s.serve(nc); err != nil {
				s.log.Debug("9p connection ended", "err", err)
			}
		}()
	}
}

// ServeConn serves one connection until it ends, and closes it. The error is
// nil if the client ended it between two messages, or the server was closed.
func (s *Server) ServeConn(nc net.Conn) error {
	if !s.begin() {
		nc.Close()
		return net.ErrClosed
	}
	defer s.wg.Done()
	return s.serve(nc)
}

// begin counts work that Close waits for.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.wg.Add(1)
	return true
}

var errConns = errors.New("too many connections")

func (s *Server) serve(nc net.Conn) error {
	c := newConn(s, nc)
	s.mu.Lock()
	full := len(s.conns) >= s.config.MaxConns
	if !full {
		s.conns[c] = struct{}{}
	}
	s.mu.Unlock()
	if full {
		nc.Close()
		return errConns
	}
	err := c.serve()
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	if s.ctx.Err() != nil {
		return nil
	}
	return err
}

// Close ends all connections and shares, and waits until nothing of them is
// open. A second call does nothing.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, sh := range s.shares {
		delete(s.shares, name)
		sh.Close()
	}
	return nil
}

// attach finds the share of a name. The caller has a reference to its root.
func (s *Server) attach(name string) (*hostfs.Tree, *hostfs.Node, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.shares[name]
	if sh == nil {
		return nil, nil, unix.ENOENT
	}
	return sh, sh.Root().Ref(), nil
}

// A broadcast wakes all that wait for it. The zero value is ready.
type broadcast struct {
	mu sync.Mutex
	ch chan struct{}
}

func (b *broadcast) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *broadcast) send() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}
