package virtiofs

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/hostfs"
)

// TestRaces has many requests at a time while nodes are closed and forgotten and
// a share comes and goes. Remove leaves no descriptor of a share open.
func TestRaces(t *testing.T) {
	stay, leave := folder(t), folder(t)
	g := newGuest(t, Config{MaxNodes: 60, MaxOpen: 20, MaxHandles: 50}, hostfs.Share{Name: "stay", Path: stay})
	stop, steps := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			for {
				select {
				case <-stop:
					return
				default:
				}
				step(g, r)
				select {
				case steps <- struct{}{}:
				default: // they are not counted just now
				}
			}
		})
	}
	for i := range 100 {
		if err := g.s.Add(hostfs.Share{Name: "leave", Path: leave}); err != nil {
			t.Error(err)
		}
		if i%10 == 9 {
			g.init()
		}
		for range 5 {
			<-steps
		}
		if err := g.s.Remove("leave"); err != nil {
			t.Error(err)
		}
		if paths := openBeneath(t, leave); len(paths) > 0 {
			t.Fatalf("open after Remove: %v", paths)
		}
	}
	close(stop)
	wg.Wait()
	g.counts()
	g.init() // the next driver finds nothing of the last
	if n, open := g.counts(); n != 1 || open != 1 || len(g.s.handles) > 0 {
		t.Errorf("%d nodes, %d of them open, and %d handles are left", n, open, len(g.s.handles))
	}
	if n := g.s.locks.spans.Load(); n != 0 || len(g.s.locks.files) > 0 {
		t.Errorf("%d locks of %d files are left", n, len(g.s.locks.files))
	}
	if err := g.s.Remove("leave"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// step does something with a few files, as far as it goes.
func step(g *guest, r *rand.Rand) {
	share := []string{"stay", "leave"}[r.IntN(2)]
	name := func() string { return fmt.Sprint("f", r.IntN(30)) }
	ask := func(op uint32, node uint64, args ...any) *decoder {
		b, err := g.call(op, node, args...)
		if err != nil {
			return nil
		}
		return &decoder{b: b}
	}
	root := ask(opLookup, rootID, share)
	if root == nil {
		return
	}
	at := root.u64()
	if d := ask(opLookup, at, fmt.Sprint("d", r.IntN(3))); d != nil {
		at = d.u64()
	}
	switch r.IntN(8) {
	case 0:
		ask(opMkdir, at, uint64(0o755), fmt.Sprint("d", r.IntN(3)))
	case 1:
		ask(opUnlink, at, name())
	case 2:
		ask(opRename2, at, at, uint64(r.IntN(3)), name(), name())
	case 3:
		ask(opRename, at, at, fmt.Sprint("d", r.IntN(3)), fmt.Sprint("d", r.IntN(3)))
	default:
		d := ask(opCreate, at, uint32(unix.O_RDWR), uint32(0o644), uint64(0), name())
		if d == nil {
			return
		}
		e, fh := d.entry(), d.u64()
		ask(opWrite, e.node, writeIn(fh, uint64(r.IntN(100)), "text", 0, uint32(r.IntN(2)*unix.O_APPEND)))
		_, _ = g.read(e.node, fh, 0, 100)
		ask(opSetlk, e.node, fh, uint64(r.IntN(3)), uint64(0), uint64(9), uint64(r.IntN(2)), uint64(0))
		ask(opGetattr, e.node, uint64(0), uint64(0))
		ask(opFlush, e.node, fh, uint64(0), uint64(1))
		if r.IntN(10) > 0 {
			ask(opRelease, e.node, fh, uint64(0), uint64(0))
		}
		if r.IntN(2) > 0 {
			g.tell(opForget, e.node, uint64(r.IntN(3)))
		}
	}
	if d := ask(opOpendir, at, uint64(0)); d != nil {
		fh := d.u64()
		_, _ = g.callFor(1000, opReaddir, at, readIn(fh, 0, 1000))
		ask(opReleasedir, at, fh, uint64(0), uint64(0))
	}
}
