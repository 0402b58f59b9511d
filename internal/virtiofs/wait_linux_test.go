package virtiofs

import (
	"errors"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/hostfs"
)

// setlkw asks for a lock and returns what waits for the answer.
func (g *guest) setlkw(node uint64, args []byte) (wait func() error) {
	in := g.message(opSetlkw, node, args)
	out := make([]byte, outHeaderSize)
	done := g.post([][]byte{in}, [][]byte{out})
	return func() error {
		g.t.Helper()
		select {
		case a := <-done:
			if a.err != nil {
				return a.err
			}
			_, err := decodeAnswer(g.t, in, out[:a.n])
			return err
		case <-time.After(2 * time.Minute):
			g.t.Fatal("a lock is waited for in vain")
			return nil
		}
	}
}

// waits waits until so many requests wait.
func (g *guest) waits(n int) []Waiter {
	g.t.Helper()
	end := time.After(2 * time.Minute)
	for {
		list, changed := g.s.Waiting()
		if len(list) == n {
			return list
		}
		select {
		case <-changed:
		case <-end:
			g.t.Fatalf("%d wait, want %d", len(list), n)
		}
	}
}

func TestWaitForGuest(t *testing.T) {
	g, node, fh, path := lockedFile(t, 4)
	host := newLocker(t, path)
	for _, kind := range []struct {
		name string
		args func(i int, typ int) []byte
	}{
		{"fcntl", func(i, typ int) []byte { return lockArgs(fh[i], uint64(i), 0, 5, typ) }},
		{"flock", func(i, typ int) []byte { return flockArgs(fh[i], typ) }},
	} {
		t.Run(kind.name, func(t *testing.T) {
			set := func(i, typ int) error { return g.setlk(node, kind.args(i, typ)) }
			wantErr(t, "first", set(0, wr), nil)
			second := g.setlkw(node, kind.args(1, wr))
			g.waits(1)
			third := g.setlkw(node, kind.args(2, rd))
			g.waits(2)
			fourth := g.setlkw(node, kind.args(3, rd))
			g.waits(3)
			wantErr(t, "unlock", set(0, un), nil)
			wantErr(t, "second", second(), nil)
			g.waits(2)
			wantErr(t, "while the second has it", set(0, rd), unix.EAGAIN)
			wantErr(t, "made shared", set(1, rd), nil)
			wantErr(t, "third", third(), nil)
			wantErr(t, "fourth", fourth(), nil)
			for i := 1; i < 4; i++ {
				wantErr(t, "unlock", set(i, un), nil)
			}
			host.do("write 0 0", nil)
			host.do("unlock 0 0", nil)
			host.do("exclusive", nil)
			host.do("none", nil)
			wantErr(t, "nobody has it", g.setlkw(node, kind.args(0, wr))(), nil)
			wantErr(t, "unlock that may wait", g.setlkw(node, kind.args(0, un))(), nil)
			host.do("write 0 0", nil)
			host.do("unlock 0 0", nil)
			g.waits(0)
		})
	}
	if len(g.s.locks.files) > 0 {
		t.Errorf("%d files are left", len(g.s.locks.files))
	}
}

// TestWaitIsFair has some who wait for all of the file and one who waits for a
// part that is free meanwhile.
func TestWaitIsFair(t *testing.T) {
	g, node, fh, _ := lockedFile(t, 1)
	wantErr(t, "first", g.setlk(node, lockArgs(fh[0], 1, 0, 5, wr)), nil)
	var turn []func() error
	for i := range uint64(20) {
		turn = append(turn, g.setlkw(node, lockArgs(fh[0], 100+i, 0, 5, wr)))
		g.waits(int(i) + 1)
	}
	wantErr(t, "a part that is free", g.setlkw(node, lockArgs(fh[0], 50, 5, 5, wr))(), nil)
	before := uint64(1)
	for i := range uint64(20) {
		wantErr(t, "unlock", g.setlk(node, lockArgs(fh[0], before, 0, 5, un)), nil)
		wantErr(t, "in turn", turn[i](), nil)
		before = 100 + i
		if list := g.waits(19 - int(i)); len(list) > 0 && list[0].Thread != 1 {
			t.Errorf("thread %d waits", list[0].Thread)
		}
	}
}

func TestWaitForHost(t *testing.T) {
	g, node, fh, path := lockedFile(t, 2)
	host := newLocker(t, path)
	host.do("write 2 2", nil)
	part := g.setlkw(node, lockArgs(fh[0], 1, 0, 5, rd))
	host.do("exclusive", nil)
	all := g.setlkw(node, flockArgs(fh[1], rd))
	g.waits(2)
	host.do("none", nil)
	wantErr(t, "flock", all(), nil)
	host.do("unlock 0 0", nil)
	wantErr(t, "fcntl", part(), nil)
	host.do("write 4 1", unix.EAGAIN)
	host.tell("wait 4 2")
	wantErr(t, "unlock", g.setlk(node, lockArgs(fh[0], 1, 4, 1, un)), nil)
	host.told("wait 4 2", nil)
	g.waits(0)
}

func TestInterrupt(t *testing.T) {
	g, node, fh, path := lockedFile(t, 2)
	host := newLocker(t, path)
	wantErr(t, "first", g.setlk(node, lockArgs(fh[0], 1, 0, 5, wr)), nil)
	second := g.setlkw(node, lockArgs(fh[1], 2, 0, 5, wr))
	host.do("exclusive", nil)
	third := g.setlkw(node, flockArgs(fh[1], wr))
	list := g.waits(2)
	if list[0].Unique+1 != list[1].Unique || list[0].Thread != 1 {
		t.Errorf("who waits: %v", list)
	}
	for _, w := range list {
		if g.s.Interrupt(w.Unique + 2) {
			t.Error("a request that there is not was interrupted")
		}
		if !g.s.Interrupt(w.Unique) || g.s.Interrupt(w.Unique) {
			t.Error("a request is interrupted once")
		}
	}
	wantErr(t, "second", second(), unix.EINTR)
	wantErr(t, "third", third(), unix.EINTR)
	g.waits(0)
	wantErr(t, "unlock", g.setlk(node, lockArgs(fh[0], 1, 0, 5, un)), nil)
	host.do("write 0 0", nil)
}

func TestWaitEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(g *guest, node, fh uint64)
		want error
	}{
		{"removed share", func(g *guest, _, _ uint64) {
			if err := g.s.Remove("s"); err != nil {
				g.t.Error(err)
			}
		}, unix.ESTALE},
		{"closed server", func(g *guest, _, _ uint64) {
			if err := g.s.Close(); err != nil {
				g.t.Error(err)
			}
		}, unix.ESTALE},
		{"released handle", func(g *guest, node, fh uint64) { g.close(node, fh) }, unix.EBADF},
		{"INIT", func(g *guest, _, _ uint64) { g.init() }, unix.EINTR},
		{"DESTROY", func(g *guest, _, _ uint64) { g.must(g.call(opDestroy, rootID)) }, unix.EINTR},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g, node, fh, path := lockedFile(t, 2)
			host := newLocker(t, path)
			wantErr(t, "first", g.setlk(node, lockArgs(fh[0], 1, 0, 5, wr)), nil)
			guest := g.setlkw(node, lockArgs(fh[1], 2, 0, 5, wr))
			host.do("exclusive", nil)
			flock := g.setlkw(node, flockArgs(fh[1], rd))
			g.waits(2)
			tt.end(g, node, fh[1])
			wantErr(t, "second", guest(), tt.want)
			wantErr(t, "flock", flock(), tt.want)
			g.waits(0)
			if tt.want == unix.ESTALE {
				host.do("write 0 0", nil)
			}
		})
	}
}

// TestWaitInVain has a driver that goes while its requests wait: what they wait
// for is not theirs afterwards.
func TestWaitInVain(t *testing.T) {
	dir := folder(t, "f", "0123456789")
	files := hostfs.NewFiles(0)
	tree, err := files.Open(hostfs.Share{Name: "s", Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	n, _, err := tree.Root().Lookup("f")
	if err != nil {
		t.Fatal(err)
	}
	defer n.Unref()
	f, _, err := n.Open(unix.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	call := func(owner uint64, flock bool) lockCall {
		return lockCall{handle: 1, file: f, owner: ownerKey{1, owner}, flock: flock, span: span{0, endOfFile, true}}
	}
	for _, flock := range []bool{false, true} {
		var lt lockTable
		host := newLocker(t, filepath.Join(dir, "f"))
		what := map[bool]string{false: "write 0 0", true: "exclusive"}[flock]
		free := map[bool]string{false: "unlock 0 0", true: "none"}[flock]

		// It goes when the lock was just granted.
		gone, answered := make(chan struct{}), make(chan error, 1)
		answer := func(err error) { answered <- err }
		granted := call(1, flock)
		if err := lt.set(&granted); err != nil {
			t.Fatal(err)
		}
		host.do(what, unix.EAGAIN)
		close(gone)
		lt.answer([]*waiter{{call: granted, gone: gone, answer: answer}})
		<-answered
		host.do(what, nil)

		// It goes before.
		gone = make(chan struct{})
		if waits, err := lt.wait(&waiter{call: call(1, flock), gone: gone, answer: answer}); !waits || err != nil {
			t.Fatal(waits, err)
		}
		close(gone)
		wantErr(t, "the driver is gone", <-answered, unix.EINTR)
		lt.answers.Wait()
		host.do(free, nil)
		host.do(what, nil)
		host.do(free, nil)
		if len(lt.waiters) > 0 || len(lt.files) > 0 || len(lt.lives) > 0 {
			t.Errorf("left: %d waiters, %d files, %d lives", len(lt.waiters), len(lt.files), len(lt.lives))
		}
	}
}

// TestManyWait has more who wait than may, in turn for one lock.
func TestManyWait(t *testing.T) {
	g, node, fh, _ := lockedFile(t, 1)
	wantErr(t, "first", g.setlk(node, lockArgs(fh[0], 1, 0, 0, wr)), nil)
	const n = 1000
	var all []func() error
	for i := range uint64(n) {
		all = append(all, g.setlkw(node, lockArgs(fh[0], 100+i, 0, 0, wr)))
	}
	g.waits(maxWaiters)
	for _, wait := range all[maxWaiters:] {
		wantErr(t, "one too many", wait(), unix.ENOLCK)
	}
	wantErr(t, "somebody else", g.setlk(node, lockArgs(fh[0], 2, 0, 0, rd)), unix.EAGAIN)
	wantErr(t, "unlock", g.setlk(node, lockArgs(fh[0], 1, 0, 0, un)), nil)
	for i, wait := range all[:maxWaiters] {
		wantErr(t, "in turn", wait(), nil)
		wantErr(t, "unlock", g.setlk(node, lockArgs(fh[0], 100+uint64(i), 0, 0, un)), nil)
	}
	g.waits(0)
	if n := g.s.config.Files.Held(); n > 10 {
		t.Errorf("%d descriptors are left", n)
	}
}

// TestManyWaitShared has many wait for what the host has, each for another part.
func TestManyWaitShared(t *testing.T) {
	g, node, fh, path := lockedFile(t, 1)
	host := newLocker(t, path)
	host.do("write 0 0", nil)
	var all []func() error
	for i := range uint64(maxWaiters) {
		all = append(all, g.setlkw(node, lockArgs(fh[0], 100+i, i, 1, rd)))
	}
	g.waits(maxWaiters)
	host.do("unlock 0 0", nil)
	for _, wait := range all {
		wantErr(t, "shared", wait(), nil)
	}
	g.close(node, fh[0])
	host.do("write 0 0", nil)
}

// TestLocksExclude has many take turns, by both kinds of locks and by many
// handles, some of which are closed, while waits are interrupted.
func TestLocksExclude(t *testing.T) {
	g, node, _, path := lockedFile(t, 1)
	host := newLocker(t, path)
	var inside [2]atomic.Int32
	var granted, interrupted atomic.Int64
	stop := make(chan struct{})
	var wg, other sync.WaitGroup
	other.Go(func() {
		for {
			list, changed := g.s.Waiting()
			for i, w := range list {
				if i%3 == 2 {
					g.s.Interrupt(w.Unique)
				}
			}
			select {
			case <-changed:
			case <-stop:
				return
			}
		}
	})
	for who := range uint64(12) {
		kind := who % 2
		wg.Go(func() {
			for i := range uint64(40) {
				fh := g.open(node, unix.O_RDWR)
				args := func(typ int) []byte {
					if kind == 0 {
						return lockArgs(fh, 1+who, i%3, 5, typ) // parts that overlap
					}
					return flockArgs(fh, typ)
				}
				switch err := g.setlkw(node, args(wr))(); {
				case err == nil:
					if n := inside[kind].Add(1); n != 1 {
						t.Errorf("%d have the lock", n)
					}
					granted.Add(1)
					runtime.Gosched()
					inside[kind].Add(-1)
				case errors.Is(err, unix.EINTR):
					interrupted.Add(1)
				default:
					t.Error(err)
				}
				switch i % 3 {
				case 0:
					wantErr(t, "unlock", g.setlk(node, args(un)), nil)
				case 1:
					g.flush(node, fh, 1+who)
				}
				g.close(node, fh)
			}
		})
	}
	wg.Wait()
	close(stop)
	other.Wait()
	t.Logf("%d locks were granted, %d waits interrupted", granted.Load(), interrupted.Load())
	if granted.Load() == 0 || interrupted.Load() == 0 {
		t.Error("nothing was tried")
	}
	host.do("write 0 0", nil)
	host.do("exclusive", nil)
	if l := &g.s.locks; len(l.files) > 0 || len(l.waiters) > 0 || len(l.lives) > 0 || l.spans.Load() != 0 {
		t.Errorf("left: %d files, %d waiters, %d lives, %d parts", len(l.files), len(l.waiters), len(l.lives), l.spans.Load())
	}
}
