package virtiofs

import (
	"log/slog"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/hostfs"
	"github.com/byrevm/byre/internal/virtio/virtiotest"
)

// A ringGuest is a driver that sends requests by a ring.
type ringGuest struct {
	guest
	d *virtiotest.Driver
}

func newRingGuest(t *testing.T, shares ...hostfs.Share) *ringGuest {
	t.Helper()
	a, b := virtiotest.Pair(t)
	s := New(a, Config{Logger: slog.New(slog.DiscardHandler)})
	g := &ringGuest{guest: guest{t: t, s: s}}
	g.d = virtiotest.Boot(t, b, virtiotest.Config{Queues: queues, Num: 1024, Events: true, Indirect: true})
	t.Cleanup(func() {
		_ = s.Close() // why the device ended is not the matter here
		if n := s.config.Files.Held(); n != 0 {
			t.Errorf("%d descriptors are left", n)
		}
	})
	for _, sh := range shares {
		if err := s.Add(sh); err != nil {
			t.Fatal(err)
		}
	}
	g.ask(opInit, 0, initIn(7, 37, 1<<30-1))
	return g
}

// ask sends a request that succeeds and returns the answer.
func (g *ringGuest) ask(op uint32, node uint64, args ...any) *decoder {
	g.t.Helper()
	in := g.message(op, node, ints(args...))
	return g.must(decodeAnswer(g.t, in, g.d.Submit(1, in, 200)))
}

// post sends a request; its answer comes later.
func (g *ringGuest) post(op uint32, node uint64, args []byte) (wait func() error) {
	in := g.message(op, node, args)
	r := g.d.Go(1, in, 200)
	return func() error {
		g.t.Helper()
		_, err := decodeAnswer(g.t, in, r.Answer())
		return err
	}
}

// TestWaitOnRing has as many wait as there can be, who leave room in the ring,
// and goroutines of the device, for others.
func TestWaitOnRing(t *testing.T) {
	dir := folder(t, "f", "0123456789")
	g := newRingGuest(t, hostfs.Share{Name: "s", Path: dir})
	share := g.ask(opLookup, rootID, "s").entry().node
	node := g.ask(opLookup, share, "f").entry().node
	fh := g.ask(opOpen, node, uint32(unix.O_RDWR), uint32(0)).u64()
	g.ask(opSetlk, node, lockArgs(fh, 1, 0, 0, wr))
	var all []func() error
	for i := range uint64(1000) {
		all = append(all, g.post(opSetlkw, node, lockArgs(fh, 100+i, i, 1, wr)))
	}
	g.waits(maxWaiters)
	for range 50 {
		g.ask(opGetattr, node, uint32(0), uint32(0), uint64(0))
	}
	g.ask(opSetlk, node, lockArgs(fh, 1, 0, 0, un))
	granted := 0
	for _, wait := range all {
		if err := wait(); err != nil {
			wantErr(t, "one too many", err, unix.ENOLCK)
			continue
		}
		granted++
	}
	if granted != maxWaiters {
		t.Errorf("%d locks were granted, want %d", granted, maxWaiters)
	}
}

// TestWaitDriverGoes has a driver that goes while requests wait, and another
// one that comes.
func TestWaitDriverGoes(t *testing.T) {
	dir := folder(t, "f", "0123456789")
	host := newLocker(t, filepath.Join(dir, "f"))
	g := newRingGuest(t, hostfs.Share{Name: "s", Path: dir})
	share := g.ask(opLookup, rootID, "s").entry().node
	node := g.ask(opLookup, share, "f").entry().node
	fh := g.ask(opOpen, node, uint32(unix.O_RDWR), uint32(0)).u64()
	g.ask(opSetlk, node, lockArgs(fh, 1, 0, 5, wr))
	host.do("exclusive", nil)
	for i := range uint64(100) {
		g.post(opSetlkw, node, lockArgs(fh, 2+i, 0, 5, wr))
		g.post(opSetlkw, node, flockArgs(fh, rd))
	}
	g.waits(200)

	// A ring that stops, and goes on from there, is the VM that is paused.
	q := g.d.Queue(1)
	q.AvailIdx = q.Stop()
	q.Start()
	g.waits(200)
	late := g.post(opSetlkw, node, lockArgs(fh, 1000, 0, 5, wr))
	g.waits(201)
	if list, _ := g.s.Waiting(); !g.s.Interrupt(list[200].Unique) {
		t.Error("not interrupted")
	}
	wantErr(t, "after a pause", late(), unix.EINTR)

	q.Stop()
	g.d.NewQueue(1, 64, false).Start()
	g.waits(0)
	g.s.locks.answers.Wait()
	select {
	case <-g.s.Done():
		t.Errorf("the device ended: %v", g.s.Err())
	default:
	}
	host.do("none", nil)
	host.do("exclusive", nil)
}

// TestWaitDeviceEnds closes the server, or QEMU goes, while requests wait.
func TestWaitDeviceEnds(t *testing.T) {
	for _, name := range []string{"close", "QEMU goes"} {
		t.Run(name, func(t *testing.T) {
			dir := folder(t, "f", "0123456789")
			host := newLocker(t, filepath.Join(dir, "f"))
			host.do("write 0 0", nil)
			g := newRingGuest(t, hostfs.Share{Name: "s", Path: dir})
			share := g.ask(opLookup, rootID, "s").entry().node
			node := g.ask(opLookup, share, "f").entry().node
			fh := g.ask(opOpen, node, uint32(unix.O_RDWR), uint32(0)).u64()
			for i := range uint64(100) {
				g.post(opSetlkw, node, lockArgs(fh, 2+i, 0, 5, wr))
			}
			g.waits(100)
			if name == "close" {
				_ = g.s.Close()
			} else {
				g.d.Sock.Close()
			}
			g.waits(0)
			<-g.s.Done()
		})
	}
}
