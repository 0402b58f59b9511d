//go:build linux

package virtio

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/byrevm/byre/internal/virtio/virtiotest"
)

// Chains are under way at the same time, and given back in any order by anybody.
func TestAnyOrder(t *testing.T) {
	for name, c := range drivers {
		t.Run(name, func(t *testing.T) {
			chains := make(chan *Chain, 1024)
			d, dr := boot(t, c, func(q int, c *Chain) {
				if rand.IntN(3) == 0 {
					echo(q, c)
					return
				}
				chains <- c
			})
			var back sync.WaitGroup
			for range 3 {
				back.Go(func() {
					for c := range chains {
						some := []*Chain{c}
						for range min(7, len(chains)) {
							select {
							case c, ok := <-chains:
								if ok {
									some = append(some, c)
								}
							default:
							}
						}
						for _, i := range rand.Perm(len(some)) {
							echo(0, some[i])
						}
					}
				})
			}
			var programs sync.WaitGroup
			for i := range 8 {
				programs.Go(func() {
					for j := range 200 {
						in := bytes.Repeat(binary.LittleEndian.AppendUint32(nil, uint32(i<<16|j)), 1+rand.IntN(4))
						if got := dr.Submit(i%2, in, len(in)); !bytes.Equal(got, in) {
							t.Errorf("got % x, want % x", got, in)
							return
						}
					}
				})
			}
			programs.Wait()
			d.Close()
			close(chains)
			back.Wait()
		})
	}
}

// A call of Serve that takes long keeps nobody waiting; not even of its own
// queue, whether it says so or not.
func TestSlowServe(t *testing.T) {
	for name, says := range map[string]bool{"says so": true, "does not say so": false} {
		t.Run(name, func(t *testing.T) {
			release := make(chan struct{})
			_, dr := boot(t, virtiotest.Config{Events: true, Indirect: true}, func(q int, c *Chain) {
				b := make([]byte, 4)
				c.In.Take(b)
				if string(b) == "slow" {
					if says {
						c.Yield()
						c.Yield() // does nothing more
					}
					<-release
				}
				c.Out.Put(b)
				c.Done(4)
			})
			var slow []*virtiotest.Request
			for range 5 {
				slow = append(slow, dr.Go(1, []byte("slow"), 4))
				for range 3 {
					if got := dr.Submit(1, []byte("fast"), 4); string(got) != "fast" {
						t.Errorf("got %q", got)
					}
				}
			}
			close(release)
			for _, r := range slow {
				if got := r.Answer(); string(got) != "slow" {
					t.Errorf("got %q", got)
				}
			}
		})
	}
}

// So many calls of Serve run at a time, all queues together; those that have
// yielded do not count.
func TestLimit(t *testing.T) {
	var running, most atomic.Int32
	started, release := make(chan struct{}, 1000), make(chan struct{})
	d, dr := boot(t, virtiotest.Config{Events: true, Indirect: true, Num: 256}, func(q int, c *Chain) {
		b := make([]byte, 1)
		c.In.Take(b)
		if b[0] == 'w' {
			c.Yield()
			<-release
		} else {
			n := running.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			started <- struct{}{}
			<-release
			running.Add(-1)
		}
		c.Done(0)
	})
	var all []*virtiotest.Request
	for range 100 { // they wait, and count for nothing
		all = append(all, dr.Go(0, []byte("w"), 1))
	}
	for range maxServing {
		all = append(all, dr.Go(1, []byte("x"), 1), dr.Go(0, []byte("x"), 1))
	}
	for range maxServing {
		within(t, started)
	}
	eventually(t, func() error {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.serving != maxServing {
			return errors.New("not full")
		}
		return nil
	})
	close(release)
	for _, r := range all {
		within(t, r.Done())
	}
	if n := most.Load(); n != maxServing {
		t.Errorf("%d at a time, want %d", n, maxServing)
	}
	eventually(t, func() error {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.serving != 0 {
			return errors.New("still serving")
		}
		return nil
	})
}

// Those that have yielded are bounded, too, and then count as others do.
func TestYieldLimit(t *testing.T) {
	var running, most atomic.Int32
	started, release := make(chan struct{}, 2000), make(chan struct{})
	d, dr := boot(t, virtiotest.Config{Events: true, Indirect: true, Num: 512}, func(q int, c *Chain) {
		c.Yield()
		n := running.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		started <- struct{}{}
		<-release
		running.Add(-1)
		c.Done(0)
	})
	var all []*virtiotest.Request
	for range 400 {
		all = append(all, dr.Go(0, []byte("x"), 1), dr.Go(1, []byte("x"), 1))
	}
	for range maxServing + maxYielded {
		within(t, started)
	}
	close(release)
	for _, r := range all {
		within(t, r.Done())
	}
	if n := most.Load(); n != maxServing+maxYielded {
		t.Errorf("%d at a time, want %d", n, maxServing+maxYielded)
	}
	eventually(t, func() error {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.serving != 0 || d.yielded != 0 {
			return errors.New("still serving")
		}
		return nil
	})
}

// One call less than the limit keeps nobody looking at rings that are empty.
func TestNearLimit(t *testing.T) {
	started, release := make(chan struct{}, maxServing), make(chan struct{})
	_, dr := boot(t, virtiotest.Config{Events: true, Indirect: true, Num: 256}, func(q int, c *Chain) {
		if q == 1 {
			started <- struct{}{}
			<-release
		}
		echo(q, c)
	})
	var all []*virtiotest.Request
	for range maxServing - 1 {
		all = append(all, dr.Go(1, []byte("x"), 1))
	}
	for range all {
		within(t, started)
	}
	const more = 100
	for range more {
		dr.Submit(0, []byte("x"), 1)
	}
	// Nobody reads it: what the driver has kicked, and what the device has.
	var b [8]byte
	if _, err := dr.Queue(1).Kick.Read(b[:]); err != nil {
		t.Fatal(err)
	}
	if n := binary.LittleEndian.Uint64(b[:]); n > maxServing+10 {
		t.Errorf("%d kicks of a ring that nobody uses, and where nobody waits for room", n)
	}
	close(release)
	for _, r := range all {
		within(t, r.Done())
	}
}

// A driver whose ring is never empty does not keep QEMU's messages out.
func TestBusyDriver(t *testing.T) {
	d, dr := boot(t, virtiotest.Config{Events: true, Indirect: true}, echo)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					dr.Submit(1, []byte("x"), 1)
				}
			}
		})
	}
	for range 20 {
		dr.Ask(virtiotest.GetFeatures, nil)
		dr.Do(virtiotest.SetVringEnable, virtiotest.Words32(1, 0))
		dr.Do(virtiotest.SetVringEnable, virtiotest.Words32(1, 1))
		dr.Queue(1).Resume(dr.Queue(1).Stop())
	}
	close(stop)
	wg.Wait()
	dr.Sock.Close()
	ends(t, d, "EOF")
}

func TestNoLeaks(t *testing.T) {
	fds := func() int {
		e, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(e)
	}
	run := func(t *testing.T) {
		_, dr := boot(t, virtiotest.Config{Events: true}, echo)
		dr.Submit(1, []byte("x"), 1)
		dr.Do(virtiotest.SetVringKick, virtiotest.Words64(1), virtiotest.Eventfd(t)) // replaced
		dr.Do(virtiotest.SetVringCall, virtiotest.Words64(0x100))
		dr.Do(virtiotest.SetVringErr, virtiotest.Words64(1), virtiotest.Eventfd(t))
		dr.Do(virtiotest.SetMemTable, append(virtiotest.Words32(1, 0), virtiotest.Words64(virtiotest.GuestBase, virtiotest.GuestSize, virtiotest.UserBase, 0)...), dr.FD)
		if err := dr.Try(virtiotest.SetMemTable, append(virtiotest.Words32(2, 0), virtiotest.Words64(1<<40, 4096, 1<<40, 0, 1<<41, 1<<30, 1<<41, 0)...), dr.FD, dr.FD); err == nil {
			t.Error("a region beyond its file was taken")
		}
	}
	t.Run("first", run)
	runtime.GC()
	f, m, n := fds(), mappings(t), runtime.NumGoroutine()
	for range 5 {
		t.Run("again", run)
	}
	eventually(t, func() error {
		runtime.GC()
		if f2, m2, n2 := fds(), mappings(t), runtime.NumGoroutine(); f2 > f || m2 > m || n2 > n {
			return errors.New("leak")
		}
		return nil
	})
}

func BenchmarkRequest(b *testing.B) {
	_, dr := boot(b, virtiotest.Config{Events: true, Indirect: true}, echo)
	in := make([]byte, 64)
	for b.Loop() {
		dr.Submit(1, in, 64)
	}
}

func BenchmarkRequests(b *testing.B) {
	_, dr := boot(b, virtiotest.Config{Events: true, Indirect: true, Num: 1024}, echo)
	in := make([]byte, 64)
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			dr.Submit(1, in, 64)
		}
	})
}
