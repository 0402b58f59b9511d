package virtiofs

import (
	"container/list"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"

	"github.com/byrevm/byre/internal/hostfs"
	"github.com/byrevm/byre/internal/virtio"
)

// Config are the limits of a [Server]. A zero value is a default.
type Config struct {
	Logger *slog.Logger // nil means slog.Default()

	// Files counts the descriptors of the server, and of others that have the
	// same. The default is a count of its own.
	Files *hostfs.Files

	// MaxNodes is how many files the guest may know. When it asks for more, those
	// that it has not asked for longest are forgotten. The default is 262144, the
	// least 16.
	MaxNodes int

	// MaxOpen is how many nodes keep a descriptor that they could get again. The
	// default is half of what Files has, the least 1.
	MaxOpen int

	// MaxHandles is how many files the guest may have open; more are ENFILE. The
	// default is 65536.
	MaxHandles int
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
	if c.Files == nil {
		c.Files = hostfs.NewFiles(0)
	}
	set(&c.MaxNodes, 1<<18, 16)
	set(&c.MaxOpen, c.Files.Max()/2, 1)
	set(&c.MaxHandles, 1<<16, 1)
	return c
}

// A Server is the virtio-fs device of one VM. Its methods are safe for
// concurrent use.
type Server struct {
	config Config
	device *virtio.Device
	ready  atomic.Bool // INIT was answered, and nothing has ended it since
	locks  lockTable
	syncs  syncer

	once     sync.Once      // guards closing
	removals sync.WaitGroup // calls of Remove; grows under mu, while there is a share

	mu         sync.Mutex // guards the rest
	closed     bool
	shares     map[string]*share
	lastShare  uint64 // number of the last one
	nodes      map[uint64]*node
	files      map[fileKey]*node
	names      map[nameKey]*node
	open       int       // nodes that have their descriptor
	warm, idle list.List // of *node, the last that was used in front
	handles    map[uint64]*handle
	lastNode   uint64
	lastHandle uint64
	device0    uint64 // the host's file system whose files keep their numbers
}

// queues are hiprio, for what has no answer, and the one for requests.
const queues = 2

// New serves QEMU at the other end of conn, which it takes over.
func New(conn *net.UnixConn, c Config) *Server {
	s := newServer(c)
	s.device = virtio.NewDevice(conn, virtio.Config{
		Name: "virtio-fs", Queues: queues, Serve: s.serve, Logger: s.config.Logger,
	})
	return s
}

func newServer(c Config) *Server {
	return &Server{
		config: c.withDefaults(), lastNode: rootID,
		shares: make(map[string]*share), nodes: make(map[uint64]*node),
		files: make(map[fileKey]*node), names: make(map[nameKey]*node),
		handles: make(map[uint64]*handle),
	}
}

// Done returns a channel that is closed when the device has ended.
func (s *Server) Done() <-chan struct{} { return s.device.Done() }

// Err returns why the device has ended, nil while it has not: [net.ErrClosed]
// after Close, [io.EOF] when QEMU went, else what QEMU or the guest did wrong.
func (s *Server) Err() error { return s.device.Err() }

// Close ends the device and all shares, and waits until nothing of them is
// open. A second call waits for the first one.
func (s *Server) Close() (err error) {
	s.once.Do(func() {
		s.mu.Lock()
		s.closed = true
		var all []*share
		for _, sh := range s.shares {
			all = append(all, sh)
		}
		s.mu.Unlock()
		// Ended first, so that nothing waits in the device.
		for _, sh := range all {
			sh.tree.End()
		}
		if s.device != nil {
			err = s.device.Close()
		}
		s.syncs.wg.Wait()
		for _, sh := range all {
			_ = s.Remove(sh.tree.Name) // not there any more if it was removed meanwhile
		}
		s.removals.Wait()
		s.locks.answers.Wait()
	})
	return err
}

// Add serves one more share. The folder is opened here, and stays the same
// whatever its path leads to later. A name that is taken is [fs.ErrExist], one
// that no file can have [fs.ErrInvalid], a path that is no folder an error of
// its own kind; then nothing has changed.
func (s *Server) Add(sh hostfs.Share) error {
	if hostfs.CheckName(sh.Name) != nil {
		return fmt.Errorf("sharing %q: no name of a file: %w", sh.Name, fs.ErrInvalid)
	}
	s.room()
	tree, err := s.config.Files.Open(sh)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		err = net.ErrClosed
	case s.shares[sh.Name] != nil:
		err = fs.ErrExist
	default:
		s.insert(tree)
		return nil
	}
	tree.Close()
	return fmt.Errorf("sharing %q: %w", sh.Name, err)
}

// Remove ends a share. When it returns, no file of it is open or will be
// touched any more; what the guest asks of its nodes is ESTALE from then on.
// A name that no share has is [fs.ErrNotExist].
func (s *Server) Remove(name string) error {
	s.mu.Lock()
	sh := s.shares[name]
	var old remains
	if sh != nil {
		old = s.take(sh)
		s.removals.Add(1)
	}
	s.mu.Unlock()
	if sh == nil {
		return fmt.Errorf("no share %q: %w", name, fs.ErrNotExist)
	}
	defer s.removals.Done()
	sh.tree.End()
	err := old.end()
	sh.users.Wait()
	sh.tree.Close()
	if err != nil {
		s.config.Logger.Warn("share was removed with errors of its files", "share", name, "err", err)
	}
	return nil
}
