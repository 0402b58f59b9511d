//go:build linux

package qemu

import (
	"crypto/rand"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/internal/lockwait"
	"github.com/byrevm/byre/internal/virtiofs"
)

func TestLockPort(t *testing.T) {
	if hcs.LockPort != lockwait.Port {
		t.Errorf("the host listens at %d and the agent dials %d", hcs.LockPort, lockwait.Port)
	}
}

// waitTable has requests that wait until they are interrupted. It is that of a
// device, without the locks.
type waitTable struct {
	done chan struct{}

	mu      sync.Mutex
	all     []virtiofs.Waiter
	changed chan struct{}
	wrong   []uint64 // interrupted, and not there
	looks   int
}

func newWaitTable() *waitTable {
	return &waitTable{done: make(chan struct{}), changed: make(chan struct{})}
}

func (w *waitTable) Done() <-chan struct{} { return w.done }

func (w *waitTable) Waiting() ([]virtiofs.Waiter, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looks++
	return slices.Clone(w.all), w.changed
}

func (w *waitTable) Interrupt(unique uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(w.all)
	w.all = slices.DeleteFunc(w.all, func(o virtiofs.Waiter) bool { return o.Unique == unique })
	if len(w.all) == n {
		w.wrong = append(w.wrong, unique)
		return false
	}
	w.change()
	return true
}

func (w *waitTable) change() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// wait has threads wait, each in the request of its number and 1000.
func (w *waitTable) wait(threads ...uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range threads {
		w.all = append(w.all, virtiofs.Waiter{Unique: uint64(t) + 1000, Thread: t})
	}
	w.change()
}

// left waits until so many wait, and returns them.
func (w *waitTable) left(t *testing.T, n int) (threads []uint32) {
	t.Helper()
	limit := time.After(10 * time.Second)
	for {
		all, changed := w.Waiting()
		if len(all) == n {
			for _, o := range all {
				threads = append(threads, o.Thread)
			}
			return threads
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("%d wait, want %d", len(all), n)
		}
	}
}

// askedAbout serves a table and returns how a guest connects.
func askedAbout(t *testing.T, w *waitTable) (dial func() net.Conn) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "locks"))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		serveLocks(l, w, slog.New(slog.DiscardHandler))
		close(ended)
	}()
	t.Cleanup(func() {
		close(w.done)
		l.Close()
		<-ended
	})
	return func() net.Conn {
		c, err := net.Dial("unix", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
}

func TestServeLocks(t *testing.T) {
	w := newWaitTable()
	dial := askedAbout(t, w)
	odd := func(thread uint32) bool { return thread%2 == 1 }
	agent := func() (net.Conn, chan error) {
		c, done := dial(), make(chan error, 1)
		go func() { done <- lockwait.Answer(c, odd) }()
		return c, done
	}
	one, done := agent()
	w.wait(2, 3)
	if got := w.left(t, 1); got[0] != 2 {
		t.Errorf("%v wait, want 2", got)
	}
	// More than one question has room for.
	for i := range uint32(5 * lockwait.Max) {
		w.wait(10 + i)
	}
	if got := w.left(t, 1+5*lockwait.Max/2); slices.ContainsFunc(got, odd) {
		t.Errorf("%v wait", got)
	}
	// An agent that comes again goes on.
	one.Close()
	<-done
	agent()
	w.wait(1)
	if got := w.left(t, 1+5*lockwait.Max/2); slices.Contains(got, 1) {
		t.Error("after another connection the wait was not interrupted")
	}
	if len(w.wrong) > 0 {
		t.Errorf("interrupted %v, which did not wait", w.wrong)
	}
}

// Nobody looks while nobody waits.
func TestNoLooks(t *testing.T) {
	w := newWaitTable()
	c := askedAbout(t, w)()
	w.wait(1)
	question := make([]byte, 4*lockwait.Max)
	if _, err := io.ReadFull(c, question); err != nil {
		t.Fatal(err)
	}
	if !w.Interrupt(1001) {
		t.Fatal("it did not wait")
	}
	if _, err := c.Write(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(20 * lockLook))
	if n, err := c.Read(question); err == nil {
		t.Errorf("asked about nobody, %d bytes", n)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.looks > 4 {
		t.Errorf("looked %d times", w.looks)
	}
}

// A guest that answers anything ends waits of its own and no others, and one
// that does not answer holds nothing up.
func TestHostileLocks(t *testing.T) {
	for name, answer := range map[string]func(c net.Conn){
		"once": func(c net.Conn) {
			io.ReadFull(c, make([]byte, 4*lockwait.Max))
			c.Write(slices.Repeat([]byte{0xff}, 8))
		},
		"garbage": func(c net.Conn) { io.Copy(c, io.LimitReader(rand.Reader, 1<<16)) },
		"part":    func(c net.Conn) { c.Write(make([]byte, 5)) },
		"unasked": func(c net.Conn) { c.Write(slices.Repeat([]byte{0xff}, 80)) },
		"silence": func(c net.Conn) { io.ReadFull(c, make([]byte, 4*lockwait.Max)) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWaitTable()
			dial := askedAbout(t, w)
			w.wait(1, 2, 3, 4, 5)
			c := dial()
			answer(c)
			c.Close()
			// The next one is served.
			c = dial()
			defer c.Close()
			go lockwait.Answer(c, func(uint32) bool { return true })
			w.left(t, 0)
			if len(w.wrong) > 0 {
				t.Errorf("interrupted %v, which did not wait", w.wrong)
			}
		})
	}
}
