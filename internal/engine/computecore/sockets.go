package computecore

import (
	"context"
	"fmt"
	"net"
	"sync"

	"github.com/Microsoft/go-winio/pkg/guid"

	"github.com/byrevm/byre/hcs"
)

// Sockets are the hypervisor's: a system's are named by its runtime id. Their
// connections have CloseWrite, and break when the system stops.
type Sockets interface {
	Listen(runtimeID guid.GUID, service hcs.ServiceID) (net.Listener, error)
	Dial(ctx context.Context, runtimeID guid.GUID, service hcs.ServiceID) (net.Conn, error)
}

// listeners are those of one system.
type listeners struct {
	mu    sync.Mutex
	ended bool
	open  map[hcs.ServiceID]*listener
}

// A listener ends with its system.
type listener struct {
	all     *listeners
	service hcs.ServiceID
	net.Listener
	once sync.Once
	done chan struct{} // closed by Close
	err  error         // of Close
}

func (ls *listeners) listen(s Sockets, runtimeID guid.GUID, service hcs.ServiceID) (net.Listener, error) {
	l := &listener{all: ls, service: service, done: make(chan struct{})}
	ls.mu.Lock()
	switch {
	case ls.ended:
		ls.mu.Unlock()
		return nil, hcs.ErrStopped
	case ls.open[service] != nil:
		ls.mu.Unlock()
		return nil, fmt.Errorf("%w: listener of service %v", hcs.ErrAlreadyExists, service)
	case ls.open == nil:
		ls.open = make(map[hcs.ServiceID]*listener)
	}
	ls.open[service] = l
	ls.mu.Unlock()

	inner, err := s.Listen(runtimeID, service)
	ls.mu.Lock()
	ended := ls.ended
	l.Listener = inner
	if err != nil {
		delete(ls.open, service)
	}
	ls.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if ended { // end could not close it yet
		l.Close()
		return nil, hcs.ErrStopped
	}
	return l, nil
}

// end closes all listeners; there will be no others.
func (ls *listeners) end() {
	ls.mu.Lock()
	ls.ended = true
	var open []*listener
	for _, l := range ls.open {
		if l.Listener != nil {
			open = append(open, l)
		}
	}
	ls.mu.Unlock()
	for _, l := range open {
		l.Close()
	}
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		return c, nil
	}
	select {
	case <-l.done:
		return nil, net.ErrClosed
	default:
		return nil, err
	}
}

func (l *listener) Close() error {
	again := true
	l.once.Do(func() {
		again = false
		close(l.done)
		l.err = l.Listener.Close()
		l.all.mu.Lock()
		delete(l.all.open, l.service)
		l.all.mu.Unlock()
	})
	if again {
		return net.ErrClosed
	}
	return l.err
}

// dialled is a connection, or why there is none.
type dialled struct {
	c   net.Conn
	err error
}
