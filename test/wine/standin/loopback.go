package standin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/Microsoft/go-winio/pkg/guid"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcs/hcstest"
	"github.com/byrevm/byre/internal/engine/computecore"
)

// system finds one by its runtime id.
func (s *Service) system(runtimeID guid.GUID) (*hcstest.System, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.objects {
		if o.system != nil && o.system.RuntimeID() == runtimeID {
			return o.system, nil
		}
	}
	return nil, fmt.Errorf("%w: system %v", hcs.ErrNotFound, runtimeID)
}

// Listen implements [computecore.Sockets]: sockets of the loopback interface
// stand for those of the hypervisor, and what the guest opens in memory is
// copied to them.
func (s *Service) Listen(runtimeID guid.GUID, service hcs.ServiceID) (net.Listener, error) {
	sys, err := s.system(runtimeID)
	if err != nil {
		return nil, err
	}
	guest, err := sys.Listen(service)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, guest.Close())
	}
	s.wg.Go(func() {
		for {
			c, err := guest.Accept()
			if err != nil {
				_ = l.Close()
				return
			}
			far, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				_ = c.Close()
				continue
			}
			s.wg.Go(func() { join(c, far) })
		}
	})
	return &loopback{Listener: l, guest: guest}, nil
}

// A loopback is a listener of a service.
type loopback struct {
	net.Listener
	guest net.Listener
}

// Close ends both listeners. The end of the system may have done that.
func (l *loopback) Close() error {
	err := l.Listener.Close()
	_ = l.guest.Close()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Dial implements [computecore.Sockets].
func (s *Service) Dial(ctx context.Context, runtimeID guid.GUID, service hcs.ServiceID) (net.Conn, error) {
	sys, err := s.system(runtimeID)
	if err != nil {
		return nil, err
	}
	guest, err := sys.Dial(ctx, service)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, guest.Close())
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, errors.Join(err, guest.Close())
	}
	far, err := l.Accept()
	if err != nil {
		return nil, errors.Join(err, guest.Close(), near.Close())
	}
	s.wg.Go(func() { join(guest, far) })
	return near, nil
}

// join copies between two connections, either direction until its end, and
// closes both. A broken one breaks the other.
func join(a, b net.Conn) {
	var wg sync.WaitGroup
	one := func(to, from net.Conn) {
		_, err := io.Copy(to, from)
		if err == nil {
			err = to.(interface{ CloseWrite() error }).CloseWrite()
		}
		if err != nil {
			_ = a.Close()
			_ = b.Close()
		}
	}
	wg.Go(func() { one(a, b) })
	wg.Go(func() { one(b, a) })
	wg.Wait()
	_ = a.Close()
	_ = b.Close()
}

var _ computecore.Sockets = (*Service)(nil)
