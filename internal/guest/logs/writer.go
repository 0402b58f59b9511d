//go:build linux

package logs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

// queue is how many lines wait for a host that reads slowly.
const queue = 1024

// A Writer writes lines to another writer, in order, without ever making the
// caller wait.
type Writer struct {
	lines chan []byte
	done  chan struct{}

	mu      sync.Mutex
	closed  bool
	dropped int
}

// NewWriter starts a writer to w. Close ends it.
func NewWriter(w io.Writer) *Writer {
	l := &Writer{lines: make(chan []byte, queue), done: make(chan struct{})}
	go l.run(w)
	return l
}

func (l *Writer) run(w io.Writer) {
	defer close(l.done)
	for b := range l.lines {
		_, _ = w.Write(b) // there is nowhere to say that the log is broken
	}
}

// Write takes one line. It always succeeds; when the queue is full the line is
// dropped.
func (l *Writer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return len(p), nil
	}
	if l.dropped > 0 {
		note := fmt.Appendf(nil, `{"time":%q,"level":"warning","msg":"log lines were lost","count":%d}`+"\n", time.Now().UTC().Format(time.RFC3339Nano), l.dropped)
		select {
		case l.lines <- note:
			l.dropped = 0
		default:
		}
	}
	select {
	case l.lines <- bytes.Clone(p):
	default:
		l.dropped++
	}
	return len(p), nil
}

// Close writes what is queued and returns when it is written or ctx has ended.
// Later lines are dropped.
func (l *Writer) Close(ctx context.Context) {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.lines)
	}
	l.mu.Unlock()
	select {
	case <-l.done:
	case <-ctx.Done():
	}
}
