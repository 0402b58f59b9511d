package hns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// OpenNIC implements [Opener].
func (l *local) OpenNIC(ctx context.Context, id string) (nic *NIC, err error) {
	err = l.changed(ctx, "connecting a NIC", func(s *state) error {
		o, err := s.endpoint(id)
		if err == nil {
			nic, err = l.openNIC(o)
		}
		return err
	})
	if err != nil {
		if nic != nil {
			err = errors.Join(err, nic.Close())
		}
		return nil, err
	}
	return nic, nil
}

func (l *local) openNIC(o *ownedEndpoint) (*NIC, error) {
	k, err := kindOf(o.Endpoint)
	if err != nil {
		return nil, err
	}
	mac, err := macAddress(o.Endpoint.MacAddress)
	if err != nil {
		return nil, err
	}
	used, err := tryLock(filepath.Join(l.dir, nicsDir, CanonicalID(o.Endpoint.Id)))
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("endpoint %s has a NIC: %w", o.Endpoint.Id, ErrAlreadyExists)
	}
	if err != nil {
		return nil, err
	}
	free := func() error { return errors.Join(os.Remove(used.Name()), used.Close()) }
	nic, err := k.open(l, o)
	if err != nil {
		return nil, errors.Join(err, free())
	}
	end, link := nic.close, nic.Link
	nic.MAC = mac.String()
	nic.close = sync.OnceValue(func() error {
		link.Close() // may have been closed before
		// Under the lock of the state, so that nobody who has just opened the
		// file takes the lock of one that is not there any more.
		return errors.Join(end(), l.change(context.Background(), func(*state) error { return free() }))
	})
	return nic, nil
}
