//go:build linux

package vhostuser

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// drain reads what there is.
func drain(c *Conn) ([]byte, error) {
	var all []byte
	for {
		b := make([]byte, 1000)
		n, err := c.TryRead(b)
		if n == 0 || err != nil {
			return all, err
		}
		all = append(all, b[:n]...)
	}
}

// What arrives is announced, once or more, and nothing gets lost, however the
// function behaves.
func TestOnReadable(t *testing.T) {
	for name, always := range map[string]bool{"never yields": false, "yields": true} {
		t.Run(name, func(t *testing.T) {
			d, g := boot(t, guestConfig{events: true, indirect: true})
			h, s := connect(t, d, g, 1)
			want := random(4 << 20)
			var mu sync.Mutex
			var got bytes.Buffer
			over := make(chan error, 1)
			h.OnReadable(func(yield func()) {
				mu.Lock()
				defer mu.Unlock()
				b, err := drain(h)
				got.Write(b)
				if always && len(b) > 0 {
					yield()
					yield() // does nothing more
				}
				if err != nil {
					select {
					case over <- err:
					default:
					}
				}
			})
			s.Write(want)
			s.shutdown(shutSend)
			if err := within(t, over); !errors.Is(err, io.EOF) {
				t.Errorf("the end: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("got %d bytes of %d, or others", got.Len(), len(want))
			}
		})
	}
}

func within[T any](t *testing.T, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(30 * time.Second):
		t.Fatal("nothing happens")
	}
	return v
}

// A function that takes long stops neither other streams nor what else comes on
// its own, and the device ends without it.
func TestSlowFunction(t *testing.T) {
	for name, says := range map[string]bool{"says so": true, "does not say so": false} {
		t.Run(name, func(t *testing.T) {
			d, g := boot(t, guestConfig{events: true, indirect: true})
			slowH, slowS := connect(t, d, g, 1)
			fastH, fastS := connect(t, d, g, 2)
			started, release, ended := make(chan struct{}, 100), make(chan struct{}), make(chan struct{}, 100)
			var calls atomic.Int32
			slowH.OnReadable(func(yield func()) {
				if b, _ := drain(slowH); len(b) == 0 {
					return
				}
				if says {
					yield()
				}
				if calls.Add(1) <= 3 {
					started <- struct{}{}
					<-release
					ended <- struct{}{}
				}
			})
			for range 3 { // one more each time
				slowS.Write([]byte("x"))
				within(t, started)
			}
			data := random(1 << 20)
			var wg sync.WaitGroup
			wg.Go(func() { fastS.Write(data); fastS.shutdown(shutSend) })
			got, err := io.ReadAll(fastH)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("the other stream: %d bytes, %v", len(got), err)
			}
			wg.Wait()
			d.Close()
			close(release)
			for range 3 {
				within(t, ended)
			}
		})
	}
}

// The end of a connection is announced, whoever makes it.
func TestOnReadableEnds(t *testing.T) {
	for name, end := range map[string]func(d *Device, g *guest, h *Conn, s *sock){
		"reset by the guest": func(_ *Device, _ *guest, _ *Conn, s *sock) { s.abort() },
		"driver gone":        func(_ *Device, g *guest, _ *Conn, _ *sock) { g.tx.Stop() },
		"device closed":      func(d *Device, _ *guest, _ *Conn, _ *sock) { d.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			d, g := boot(t, guestConfig{events: true})
			h, s := connect(t, d, g, 1)
			over := make(chan error, 10)
			h.OnReadable(func(func()) {
				if _, err := drain(h); err != nil {
					over <- err
				}
			})
			s.Write([]byte("last words"))
			end(d, g, h, s)
			if err := within(t, over); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Nobody in the guest waits long for the interrupt that its packet was taken.
func TestLateSignal(t *testing.T) {
	for _, events := range []bool{false, true} {
		t.Run(fmt.Sprint("events ", events), func(t *testing.T) {
			d, g := boot(t, guestConfig{events: events})
			_, s := connect(t, d, g, 1)
			for range 3 {
				if _, err := s.Write([]byte("x")); err != nil {
					t.Fatal(err)
				}
				eventually(t, func() error {
					d.tx.Lock()
					defer d.tx.Unlock()
					if d.tx.Waiting() || d.tx.Unsignaled() > 0 {
						return errors.New("the guest was not told")
					}
					return nil
				})
			}
		})
	}
}
