package hcstest

import (
	"context"
	"fmt"
	"net"
	"sync"

	"github.com/byrevm/byre/hcs"
)

// A network is the sockets of one system: listeners of the host, which the
// guest dials, and the other way round.
type network struct {
	mu        sync.Mutex
	ended     bool
	listeners map[side]map[hcs.ServiceID]*listener
	conns     map[*conn]bool // the host's ends of the open ones
}

type side int

const (
	hostSide side = iota
	guestSide
)

func newNetwork() *network {
	return &network{
		listeners: map[side]map[hcs.ServiceID]*listener{hostSide: {}, guestSide: {}},
		conns:     make(map[*conn]bool),
	}
}

// backlog is how many connections a listener holds that were not accepted.
const backlog = 128

type listener struct {
	n       *network
	side    side
	service hcs.ServiceID
	queue   chan *conn
	done    chan struct{}
	once    sync.Once
}

func (n *network) listen(s side, service hcs.ServiceID) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ended {
		return nil, hcs.ErrStopped
	}
	if n.listeners[s][service] != nil {
		return nil, fmt.Errorf("%w: listener of service %v", hcs.ErrAlreadyExists, service)
	}
	l := &listener{n: n, side: s, service: service, queue: make(chan *conn, backlog), done: make(chan struct{})}
	n.listeners[s][service] = l
	return l, nil
}

// dial connects to a listener on side s.
func (n *network) dial(ctx context.Context, s side, service hcs.ServiceID) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var host, guest *conn
	host, guest = newConn(service, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.conns, host)
	})
	far, near := host, guest
	if s == guestSide {
		far, near = guest, host
	}
	if err := n.connect(s, service, far, host); err != nil {
		host.Close()
		guest.Close()
		return nil, err
	}
	return near, nil
}

// connect gives far, one end of the host's connection host, to the listener.
func (n *network) connect(s side, service hcs.ServiceID, far, host *conn) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ended {
		return hcs.ErrStopped
	}
	l := n.listeners[s][service]
	if l == nil {
		return fmt.Errorf("%w: connection refused by service %v", hcs.ErrNotFound, service)
	}
	select {
	case l.queue <- far:
		n.conns[host] = true
		return nil
	default:
		return fmt.Errorf("%w: connection refused by service %v: its queue is full", hcs.ErrNotFound, service)
	}
}

// end breaks everything.
func (n *network) end() {
	n.mu.Lock()
	n.ended = true
	var ls []*listener
	for _, m := range n.listeners {
		for _, l := range m {
			ls = append(ls, l)
		}
	}
	for c := range n.conns {
		c.reset()
	}
	n.mu.Unlock()
	for _, l := range ls {
		l.Close()
	}
}

// open returns how many listeners and connections there are.
func (n *network) open() (listeners, conns int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.listeners[hostSide]) + len(n.listeners[guestSide]), len(n.conns)
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close resets the connections that were not accepted.
func (l *listener) Close() error {
	err := net.ErrClosed
	l.once.Do(func() {
		err = nil
		l.n.mu.Lock()
		delete(l.n.listeners[l.side], l.service)
		close(l.done)
		l.n.mu.Unlock()
		for {
			select {
			case c := <-l.queue:
				c.reset()
				c.Close()
			default:
				return
			}
		}
	})
	return err
}

func (l *listener) Addr() net.Addr {
	return addr{map[side]string{hostSide: "host", guestSide: "guest"}[l.side], l.service}
}
