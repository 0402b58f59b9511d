package virtiofs

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/hostfs"
	"github.com/byrevm/byre/internal/virtio/virtiotest"
)

// TestRing moves as much as a request can between a file and the guest's memory,
// which is in pieces.
func TestRing(t *testing.T) {
	g := newRingGuest(t, source(t))
	src := g.ask(opLookup, rootID, "src").entry()
	d := g.ask(opCreate, src.node, uint32(unix.O_RDWR), uint32(0o600), uint64(0), "f")
	f, fh := d.entry(), d.u64()
	text := make([]byte, maxData)
	for i := range text {
		text[i] = byte(rand.Uint32())
	}
	if n := g.ask(opWrite, f.node, writeIn(fh, 7, string(text), 0, 0)).u32(); n != maxData {
		t.Fatalf("%d bytes were written", n)
	}
	for _, size := range []int{1, 4095, 4096, 5000, maxData} {
		in := g.message(opRead, f.node, readIn(fh, 7, size))
		b := g.must(decodeAnswer(t, in, g.d.Submit(1, in, outHeaderSize+size))).b
		if string(b) != string(text[:size]) {
			t.Errorf("%d bytes were read, and not %d, or others", len(b), size)
		}
	}
	// By the queue of what has no answer.
	if b := g.d.Submit(0, g.message(opForget, f.node, ints(uint64(1))), 0); len(b) != 0 {
		t.Errorf("FORGET is answered: %x", b)
	}
	g.ask(opRelease, f.node, fh, uint64(0), uint64(0))
	in := g.message(opGetattr, f.node, make([]byte, 16))
	_, err := decodeAnswer(t, in, g.d.Submit(1, in, 200))
	wantErr(t, "GETATTR of what was forgotten", err, unix.ESTALE)
}

func TestBrokenDriver(t *testing.T) {
	g := newRingGuest(t, source(t))
	g.d.Go(1, g.message(opGetattr, rootID, make([]byte, 16))[:20], 200)
	<-g.s.Done()
	var broken errHeader
	if err := g.s.Err(); !errors.As(err, &broken) {
		t.Errorf("the device ended with %v", err)
	}
	if err := g.s.Remove("src"); err != nil {
		t.Error(err)
	}
}

// TestCloseUnderWay closes the server while requests are under way.
func TestCloseUnderWay(t *testing.T) {
	dir := folder(t, "f", "text")
	g := newRingGuest(t, hostfs.Share{Name: "s", Path: dir})
	share := g.ask(opLookup, rootID, "s").entry().node
	node := g.ask(opLookup, share, "f").entry().node
	fh := g.ask(opOpen, node, uint32(unix.O_RDWR), uint32(0)).u64()
	var started, all sync.WaitGroup
	for range 8 {
		started.Add(1)
		all.Go(func() {
			for i := 0; ; i++ {
				r := g.d.Go(1, g.message(opWrite, node, writeIn(fh, 0, "text", 0, 0)), 24)
				select {
				case <-r.Done():
				case <-g.s.Done():
					if i < 10 {
						started.Done()
					}
					return
				}
				if i == 10 {
					started.Done()
				}
			}
		})
	}
	started.Wait()
	if err := g.s.Close(); err != nil {
		t.Error(err)
	}
	all.Wait()
	if err := g.s.Err(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the device ended with %v", err)
	}
	if paths := openBeneath(t, dir); len(paths) > 0 {
		t.Errorf("open after Close: %v", paths)
	}
	if err := g.s.Remove("s"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// TestRemoveWhilePaused removes a share while the VM is paused: requests that
// wait for the guest's memory use no share.
func TestRemoveWhilePaused(t *testing.T) {
	sh := source(t, "f", "text")
	g := newRingGuest(t, sh)
	for range 300 {
		share := g.ask(opLookup, rootID, sh.Name).entry().node
		f := g.ask(opLookup, share, "f").entry().node
		fh := g.ask(opOpen, f, uint32(unix.O_RDWR), uint32(0)).u64()
		var all []*virtiotest.Request
		for range 16 {
			all = append(all, g.d.Go(1, g.message(opRead, f, readIn(fh, 0, 8)), outHeaderSize+8),
				g.d.Go(1, g.message(opWrite, f, writeIn(fh, 0, "text", 0, 0)), outHeaderSize+8))
		}
		base := g.d.Queue(1).Stop()
		removed := make(chan error, 1)
		go func() { removed <- g.s.Remove(sh.Name) }()
		select {
		case err := <-removed:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(time.Minute):
			t.Fatal("the share is in use while the VM is paused")
		}
		if err := g.s.Add(sh); err != nil {
			t.Fatal(err)
		}
		g.d.Queue(1).Resume(base)
		for _, r := range all {
			<-r.Done()
		}
	}
}
