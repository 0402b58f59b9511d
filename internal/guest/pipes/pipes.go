//go:build linux

package pipes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/guest/storage"
	"github.com/byrevm/byre/internal/pipe"
)

// Limits of what a host can make the agent keep, and what clients can make it
// take from the host: streams and shares have their connections there too.
const (
	maxPipes = 128
	maxConns = 512 // of all pipes
)

// A Dialer connects to a vsock port of the host.
type Dialer func(ctx context.Context, port uint32) (pipe.Conn, error)

// A Set is the pipes of the machine.
type Set struct {
	dial   Dialer
	log    *slog.Logger
	places chan struct{} // of connections

	mu sync.Mutex
	m  map[string]*shared // by MountPath
}

// New returns an empty set.
func New(dial Dialer, log *slog.Logger) *Set {
	return &Set{dial: dial, log: log, places: make(chan struct{}, maxConns), m: make(map[string]*shared)}
}

// A shared pipe has a socket and perhaps a link to it.
type shared struct {
	relay *pipe.Relay
	made  []node // what to remove, in the order in which it was made
}

// Add makes a socket, which is served when Add returns. What is at its path
// already stays, and is an error.
func (s *Set) Add(p hcsschema.LCOWMappedPipe) error {
	if err := check(p); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.m[p.MountPath] != nil:
		return fmt.Errorf("pipe %s: %w", p.MountPath, unix.EEXIST)
	case len(s.m) >= maxPipes:
		return fmt.Errorf("there are %d pipes already", maxPipes)
	}
	k, err := s.make(p)
	if err != nil {
		return err
	}
	s.m[p.MountPath] = k
	return nil
}

func check(p hcsschema.LCOWMappedPipe) error {
	if err := storage.CheckPath(p.MountPath); err != nil {
		return err
	}
	switch {
	case p.Port == 0:
		return errors.New("a pipe has no port 0")
	case p.Mode&^0o777 != 0:
		return fmt.Errorf("a socket has no mode %#o", p.Mode)
	case p.LinkPath != "":
		return checkLink(p.LinkPath)
	}
	return nil
}

func (s *Set) make(p hcsschema.LCOWMappedPipe) (_ *shared, err error) {
	k := &shared{}
	defer func() {
		if err != nil {
			err = errors.Join(err, k.remove())
		}
	}()
	l, err := k.listen(p)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", p.MountPath, err)
	}
	if p.LinkPath != "" && p.LinkPath != p.MountPath {
		if err = k.link(p.LinkPath, p.MountPath); errors.Is(err, unix.EROFS) {
			s.log.Warn("pipe is at its own place only, as the root is read-only", "path", p.LinkPath, "place", p.MountPath)
			err = nil
		}
		if err != nil {
			l.Close()
			return nil, fmt.Errorf("linking %s: %w", p.LinkPath, err)
		}
	}
	k.relay = pipe.Start(pipe.Config{
		Listener: l, Shared: s.places, Logger: s.log,
		Dial: func(ctx context.Context) (pipe.Conn, error) { return s.dial(ctx, p.Port) },
	})
	return k, nil
}

// Remove ends the connections of a pipe and removes its socket. One that is
// not there is no error.
func (s *Set) Remove(p hcsschema.LCOWMappedPipe) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.m[p.MountPath]
	if k == nil {
		return nil
	}
	if err := k.remove(); err != nil {
		return err
	}
	delete(s.m, p.MountPath)
	return nil
}

// remove undoes what has been made. If it fails, call it again.
func (k *shared) remove() error {
	var errs []error
	var left []node
	for i := len(k.made) - 1; i >= 0; i-- {
		if err := k.made[i].remove(); err != nil {
			errs = append(errs, err)
			left = append([]node{k.made[i]}, left...)
		}
	}
	k.made = left
	if k.relay != nil {
		k.relay.Close() // nobody can come any more
	}
	return errors.Join(errs...)
}
