//go:build linux

package virtio

import (
	"bytes"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/byrevm/byre/internal/virtio/virtiotest"
)

// attach makes a device with its other end.
func attach(t testing.TB, dc virtiotest.Config, serve func(q int, c *Chain)) (*Device, *virtiotest.Driver) {
	t.Helper()
	a, b := virtiotest.Pair(t)
	if dc.Queues == 0 {
		dc.Queues = 2
	}
	dr := virtiotest.NewDriver(t, b, dc)
	d := NewDevice(a, Config{Name: "test", Queues: dc.Queues, Features: 1 << 5, Space: virtiotest.Words64(3), Serve: serve, Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() { d.Close() })
	return d, dr
}

// boot is attach with the driver up.
func boot(t testing.TB, dc virtiotest.Config, serve func(q int, c *Chain)) (*Device, *virtiotest.Driver) {
	t.Helper()
	d, dr := attach(t, dc, serve)
	dr.Handshake()
	dr.AddMemory()
	dr.Start()
	return d, dr
}

// echo answers with what was sent, as much as there is room for.
func echo(_ int, c *Chain) {
	b := make([]byte, min(c.In.Len(), c.Out.Len()))
	if c.In.Take(b) == nil && c.Out.Put(b) == nil {
		c.Done(len(b))
		return
	}
	c.Done(0)
}

var drivers = map[string]virtiotest.Config{
	"plain":           {},
	"events":          {Events: true},
	"indirect":        {Indirect: true},
	"events indirect": {Events: true, Indirect: true},
	"small ring":      {Events: true, Num: 4, Indirect: true},
	"small pieces":    {Events: true, Num: 1024, Piece: 7},
}

func TestEcho(t *testing.T) {
	for name, c := range drivers {
		t.Run(name, func(t *testing.T) {
			d, dr := boot(t, c, echo)
			for i := range 200 {
				in := bytes.Repeat([]byte{byte(i)}, i*10+1)
				if got := dr.Submit(i%2, in, len(in)); !bytes.Equal(got, in) {
					t.Fatalf("got %d bytes of %d, or others", len(got), len(in))
				}
			}
			dr.Sock.Close()
			<-d.Done()
			if d.Err() != io.EOF {
				t.Errorf("got %v, want EOF", d.Err())
			}
		})
	}
}

func within[T any](t *testing.T, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(60 * time.Second):
		t.Fatal("nothing happens")
	}
	return v
}

// eventually polls for what has no event to wait for.
func eventually(t testing.TB, f func() error) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	end := time.After(60 * time.Second)
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatal(err)
		}
	}
}
