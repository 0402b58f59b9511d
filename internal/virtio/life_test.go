//go:build linux

package virtio

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/byrevm/byre/internal/virtio/virtiotest"
)

// held is a device that hands out its chains.
func held(t *testing.T) (*Device, *virtiotest.Driver, chan *Chain) {
	chains := make(chan *Chain, 100)
	d, dr := boot(t, virtiotest.Config{Events: true, Indirect: true}, func(_ int, c *Chain) { chains <- c })
	return d, dr, chains
}

func open(c <-chan struct{}) bool {
	select {
	case <-c:
		return false
	default:
		return true
	}
}

// A VM that is paused finds answers to everything when it goes on.
func TestPause(t *testing.T) {
	for _, when := range []string{"after the pause", "while paused", "by one who writes while paused"} {
		t.Run(when, func(t *testing.T) {
			_, dr, chains := held(t)
			r := dr.Go(1, []byte("question"), 10)
			c := <-chains
			base := dr.Queue(1).Stop()
			if base != 1 {
				t.Errorf("stopped at %d", base)
			}
			var wg sync.WaitGroup
			switch when {
			case "while paused":
				c.Done(0)
			case "by one who writes while paused":
				started := make(chan struct{})
				wg.Go(func() { close(started); echo(0, c) })
				<-started
			}
			if !open(r.Done()) {
				t.Error("answered while paused")
			}
			dr.Queue(1).Start()
			if when == "after the pause" {
				echo(0, c)
			}
			got := r.Answer()
			if want := "question"; when != "while paused" && string(got) != want {
				t.Errorf("got %q", got)
			}
			if !open(c.Gone()) {
				t.Error("gone")
			}
			wg.Wait()
			// And it goes on.
			r = dr.Go(1, []byte("next"), 10)
			echo(0, <-chains)
			if got := r.Answer(); string(got) != "next" {
				t.Errorf("got %q", got)
			}
		})
	}
}

// After a driver has reset the device nothing that it asked for is written to
// its memory, and nothing but what the next one asks is answered.
func TestReset(t *testing.T) {
	for _, when := range []string{"before", "meanwhile"} {
		t.Run(when, func(t *testing.T) {
			d, dr, chains := held(t)
			old := dr.Go(1, []byte("old question"), 20)
			c := <-chains
			dr.Queue(0).Stop()
			dr.Queue(1).Stop()
			var wg sync.WaitGroup
			if when == "meanwhile" {
				started := make(chan struct{})
				wg.Go(func() {
					close(started)
					if err := c.Out.Put([]byte("late")); err == nil {
						t.Error("written")
					}
				})
				<-started
			}
			dr.Restart()
			<-c.Gone()
			wg.Wait()
			if c.Out.Put([]byte("late")) == nil || c.In.Take(make([]byte, 1)) == nil || c.Out.Slice(5) != nil {
				t.Error("the memory is still there")
			}
			r := dr.Go(1, []byte("new"), 20)
			c2 := <-chains
			c.Fail(errors.New("too late")) // ends nothing
			echo(0, c2)
			if got := r.Answer(); string(got) != "new" {
				t.Errorf("got %q", got)
			}
			if !open(old.Done()) || !open(d.Done()) {
				t.Error("the old request was answered, or the device has ended")
			}
		})
	}
}

// QEMU waits for who reads into the guest's memory, but not for ever.
func TestStopWaits(t *testing.T) {
	d, dr, chains := held(t)
	r := dr.Go(1, []byte("x"), 10)
	c := <-chains
	c.Out.Slice(5)
	stopped := make(chan uint16)
	go func() { stopped <- dr.Queue(1).Stop() }()
	l := d.queues[1].life
	parked := func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.state != lifeParked {
			return errors.New("not stopped")
		}
		return nil
	}
	eventually(t, parked)
	select {
	case <-stopped:
		t.Error("stopped under a read")
	default:
	}
	c.Done(5)
	if base := within(t, stopped); base != 1 {
		t.Errorf("stopped at %d", base)
	}
	dr.Queue(1).Start()
	if got := r.Answer(); len(got) != 5 {
		t.Errorf("got %q", got)
	}

	d.stopTime = time.Millisecond
	r = dr.Go(1, []byte("x"), 10)
	c = <-chains
	c.Out.Slice(5)
	go func() { stopped <- dr.Queue(1).Stop() }()
	within(t, stopped)
	dr.Queue(1).Start()
	c.Done(7)
	if got := r.Answer(); len(got) != 7 {
		t.Errorf("got %q", got)
	}
}

// A region that QEMU removes stays mapped for chains that use it, and QEMU does
// not wait for those.
func TestRemovedMemory(t *testing.T) {
	_, dr, chains := held(t)
	const at, size = 1 << 40, 1 << 20
	extra := virtiotest.Memfd(t, size)
	region := virtiotest.Words64(0, at, size, 1<<45, 0)
	before := mappings(t)
	dr.Do(virtiotest.AddMemReg, region, extra)
	q := dr.Queue(1)
	dr.Describe(q.Desc, 0, virtiotest.Desc(at, 100, virtiotest.DescWrite, 0))
	q.Offer(0)
	c := <-chains
	dr.Do(virtiotest.RemMemReg, region)
	if n := mappings(t); n != before+1 {
		t.Errorf("%d mappings, %d before", n, before)
	}
	// Other memory comes and goes meanwhile.
	other := virtiotest.Words64(0, at+size, size, 1<<45+size, 0)
	dr.Do(virtiotest.AddMemReg, other, extra)
	dr.Do(virtiotest.RemMemReg, other)
	want := bytes.Repeat([]byte("x"), 100)
	if err := c.Out.Put(want); err != nil {
		t.Error(err)
	}
	got := make([]byte, 100)
	if _, err := extra.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the file has %q, %v", got, err)
	}
	c.release(t)
	if n := mappings(t); n != before {
		t.Errorf("%d mappings, %d before", n, before)
	}
}

// release is Done of a chain that no driver knows.
func (c *Chain) release(*testing.T) {
	c.q.Lock()
	c.q.life = newLife()
	c.q.Unlock()
	c.Done(0)
}

// mappings counts those of guests' memory.
func mappings(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(b, []byte("memfd:guest"))
}

// Answers that are given while the ring cannot run wait for it: while it is
// disabled, and while QEMU replaces the memory that it lies in.
func TestRest(t *testing.T) {
	whole := virtiotest.Words64(0, virtiotest.GuestBase, virtiotest.GuestSize, virtiotest.UserBase, 0)
	for name, f := range map[string][2]func(dr *virtiotest.Driver){
		"disabled": {
			func(dr *virtiotest.Driver) { dr.Do(virtiotest.SetVringEnable, virtiotest.Words32(1, 0)) },
			func(dr *virtiotest.Driver) { dr.Do(virtiotest.SetVringEnable, virtiotest.Words32(1, 1)) },
		},
		"no memory": {
			func(dr *virtiotest.Driver) { dr.Do(virtiotest.RemMemReg, whole) },
			func(dr *virtiotest.Driver) { dr.Do(virtiotest.AddMemReg, whole, dr.FD) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, dr, chains := held(t)
			a, b := dr.Go(1, []byte("first"), 10), dr.Go(1, []byte("second"), 10)
			c1, c2 := <-chains, <-chains
			f[0](dr)
			echo(0, c1)
			c := dr.Go(1, []byte("third"), 10) // nobody looks
			f[1](dr)
			echo(0, c2)
			echo(0, <-chains)
			for r, want := range map[*virtiotest.Request]string{a: "first", b: "second", c: "third"} {
				if got := r.Answer(); string(got) != want {
					t.Errorf("got %q, want %q", got, want)
				}
			}
		})
	}
}

// Close waits for Serve, which learns of it; chains that are given back later do
// no harm, and let go of the memory.
func TestClose(t *testing.T) {
	before := mappings(t)
	chains := make(chan *Chain, 2)
	var ended bool
	d, dr := boot(t, virtiotest.Config{}, func(q int, c *Chain) {
		chains <- c
		if q == 0 {
			<-c.Gone()
			ended = true
			c.Done(0)
		}
	})
	dr.Go(0, []byte("waits"), 1)
	<-chains
	dr.Go(1, []byte("later"), 1)
	later := <-chains
	if err := d.Close(); err != nil || !ended {
		t.Errorf("closed with %v, Serve has ended: %t", err, ended)
	}
	if n := mappings(t); n != before+2 { // the driver's own, and later's
		t.Errorf("%d mappings, %d before", n, before)
	}
	if err := later.Out.Put([]byte("x")); err == nil {
		t.Error("written")
	}
	later.Done(0)
	if n := mappings(t); n != before+1 {
		t.Errorf("%d mappings, %d before", n, before)
	}
	if _, err := dr.Sock.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("got %v, want EOF", err)
	}
}
