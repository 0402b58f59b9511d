package hns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// A builder is a kind whose endpoints take longer to make and to remove than
// others who change the state can wait. Their process holds a lock of its own
// for the endpoint meanwhile; see [busyDir].
type builder interface {
	kind
	// build makes what an endpoint needs, and fills in what it has then.
	build(ctx context.Context, l *local, o *ownedEndpoint) error
	// demolish removes it, or what there is of it.
	demolish(ctx context.Context, l *local, o *ownedEndpoint) error
}

// demolishTime is what removing what somebody has left may take.
const demolishTime = 30 * time.Second

func (l *local) busy(id string) (*os.File, error) {
	f, err := tryLock(filepath.Join(l.dir, busyDir, CanonicalID(id)))
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("endpoint %s is being made or removed: %w", id, ErrAlreadyExists)
	}
	return f, err
}

// idle ends what busy has begun. The state is locked.
func idle(f *os.File) error { return errors.Join(os.Remove(f.Name()), f.Close()) }

// raise builds an endpoint that is in the state already, unfinished, and puts
// it into its namespace. If that fails nothing is left of it.
func (l *local) raise(ctx context.Context, b builder, o *ownedEndpoint, into *Namespace, busy *os.File) error {
	err := b.build(ctx, l, o)
	if err == nil {
		err = l.change(ctx, func(s *state) error {
			at := slices.IndexFunc(s.Endpoints, func(other *ownedEndpoint) bool { return SameID(other.Endpoint.Id, o.Endpoint.Id) })
			if at < 0 {
				return fmt.Errorf("endpoint %s: %w", o.Endpoint.Id, ErrNotFound)
			}
			o.Unfinished = false
			s.Endpoints[at] = o
			if into != nil {
				n, err := s.namespace(into.ID)
				if err != nil {
					return err
				}
				if err := s.put(n.Namespace, o.Endpoint); err != nil {
					return err
				}
			}
			return idle(busy)
		})
	}
	if err == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), demolishTime)
	defer cancel()
	return errors.Join(err, l.raze(ctx, b, o, busy))
}

// raze demolishes an endpoint and forgets it. If that fails it stays as it is
// in the state.
func (l *local) raze(ctx context.Context, b builder, o *ownedEndpoint, busy *os.File) error {
	if err := b.demolish(ctx, l, o); err != nil {
		return errors.Join(err, l.change(context.WithoutCancel(ctx), func(*state) error { return idle(busy) }))
	}
	return l.change(context.WithoutCancel(ctx), func(s *state) error {
		for _, other := range slices.Clone(s.Endpoints) {
			if SameID(other.Endpoint.Id, o.Endpoint.Id) {
				s.removeEndpoint(other)
			}
		}
		return idle(busy)
	})
}

// sweep removes what nobody owns any more of the endpoints that take longer,
// in this network namespace of the kernel: of all sessions or, if own is set,
// of this one.
func (l *local) sweep(ctx context.Context, own bool) error {
	var found []*ownedEndpoint
	err := l.change(ctx, func(s *state) error {
		here, err := identity()
		for _, o := range s.Endpoints {
			if o.Unfinished && o.NetNS == here && (!own || o.Session == l.session) {
				found = append(found, o)
			}
		}
		return err
	})
	for _, o := range found {
		err = errors.Join(err, l.sweepOne(ctx, o))
	}
	return err
}

func (l *local) sweepOne(ctx context.Context, o *ownedEndpoint) error {
	k, err := kindOf(o.Endpoint)
	if err != nil {
		return err
	}
	b, ok := k.(builder)
	if !ok {
		return fmt.Errorf("endpoint %s: network %s: %w", o.Endpoint.Id, o.Endpoint.VirtualNetwork, ErrNotSupported)
	}
	var busy *os.File
	err = l.change(ctx, func(s *state) (err error) {
		if !slices.ContainsFunc(s.Endpoints, func(other *ownedEndpoint) bool {
			return SameID(other.Endpoint.Id, o.Endpoint.Id) && other.Unfinished
		}) {
			return ErrNotFound
		}
		busy, err = l.busy(o.Endpoint.Id)
		return err
	})
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrAlreadyExists) {
		return nil // somebody has removed it, or is at it
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, demolishTime)
	defer cancel()
	if err := l.raze(ctx, b, o, busy); err != nil {
		return fmt.Errorf("endpoint %s: %w", o.Endpoint.Id, err)
	}
	return nil
}

// sweepOthers sweeps for those who could not, of whose failures the next one
// hears too.
func (l *local) sweepOthers() {
	if _, err := os.Stat(filepath.Join(l.dir, stateFile)); errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err := l.sweep(context.Background(), false); err != nil {
		slog.Warn("what a process that has ended left of the network was not removed", "err", err)
	}
}
