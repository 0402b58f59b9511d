package uvm

import (
	"context"
	"sync"
)

// claims tell which files of the host are in use, by whatever kind of device:
// a file that the guest may write to is attached once only. The zero value is
// ready to use.
type claims struct {
	mu sync.Mutex
	m  map[string]*claim
}

type claim struct {
	writable bool
	n        int
}

// take claims path, or is [ErrAlreadyAttached].
func (c *claims) take(path string, writable bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.m[path]
	if x == nil {
		if c.m == nil {
			c.m = make(map[string]*claim)
		}
		c.m[path] = &claim{writable, 1}
		return nil
	}
	if writable || x.writable {
		return ErrAlreadyAttached
	}
	x.n++
	return nil
}

// give takes one claim of path back.
func (c *claims) give(path string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.m[path]
	if x.n--; x.n == 0 {
		delete(c.m, path)
	}
}

// leftovers are resources that a failed Add has left on the host because the
// host would not take them back. The zero value is ready to use.
type leftovers struct {
	mu sync.Mutex
	m  map[string]func(context.Context) error
}

// keep remembers how to get rid of what the Add of path left.
func (l *leftovers) keep(path string, undo func(context.Context) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.m == nil {
		l.m = make(map[string]func(context.Context) error)
	}
	l.m[path] = undo
}

// clear tries again to get rid of what an Add of path left, if it left
// anything. Whoever calls it has the turn at path in the refs that made it.
func (l *leftovers) clear(ctx context.Context, path string) error {
	l.mu.Lock()
	undo := l.m[path]
	l.mu.Unlock()
	if undo == nil {
		return nil
	}
	if err := undo(ctx); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.m, path)
	return nil
}
