package usernet

import (
	"context"
	"sync"
	"time"
)

// A life is what goes on and is open until Close.
type life struct {
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	linger time.Duration // see leave

	mu     sync.Mutex
	closed bool
	open   map[closer]struct{} // what end closes
}

type closer interface{ Close() error }

func newLife() *life {
	l := &life{linger: lingerTime, open: make(map[closer]struct{})}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// end closes everything, calls also, and waits for what goes on. It reports
// whether it is the first call; the others only wait.
func (l *life) end(also func()) (first bool) {
	l.mu.Lock()
	first = !l.closed
	l.closed = true
	open := l.open
	l.open = nil
	l.mu.Unlock()
	if first {
		l.cancel()
		for c := range open {
			c.Close()
		}
		also()
	}
	l.wg.Wait()
	return first
}

// goes runs do in a goroutine that end waits for. It reports false, and does
// nothing, after the end.
func (l *life) goes(do func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.wg.Go(do)
	return true
}

// keep lets end close c. It reports false after the end; then c is closed.
func (l *life) keep(c closer) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		c.Close()
		return false
	}
	l.open[c] = struct{}{}
	return true
}

// drop closes c.
func (l *life) drop(c closer) {
	l.mu.Lock()
	delete(l.open, c)
	l.mu.Unlock()
	c.Close()
}
