//go:build linux

package test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/cow"
	"github.com/byrevm/byre/uvm"
)

// A sharer is testdata/share that runs in a guest, spoken to by lines.
type sharer struct {
	cmd   *cow.Cmd
	stdin *io.PipeWriter
	out   *bufio.Reader
	ended chan error
}

// saveShare puts testdata/share into a folder.
func saveShare(t *testing.T, dir string) {
	t.Helper()
	program, err := buildShare()
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "share"), program, 0o755)
	}
	if err != nil {
		t.Fatalf("building the program of shares: %v", err)
	}
}

// sharing starts testdata/share. The caller ends it.
func sharing(ctx context.Context, t *testing.T, host cow.ProcessHost, program, file, what string) *sharer {
	t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	s := &sharer{cmd: cow.Command(host, program, file, what), stdin: inW, out: bufio.NewReader(outR), ended: make(chan error, 1)}
	s.cmd.Stdin, s.cmd.Stdout = inR, outW
	if err := s.cmd.Start(ctx); err != nil {
		t.Fatalf("starting %s: %v", what, err)
	}
	go func() {
		err := s.cmd.Wait()
		outW.CloseWithError(io.EOF)
		s.ended <- err
	}()
	t.Cleanup(func() { s.end(t) }) // of one that the test did not end, as it failed
	return s
}

// end closes the input and waits until the program has ended.
func (s *sharer) end(t *testing.T) {
	t.Helper()
	s.stdin.Close()
	go io.Copy(io.Discard, s.out)
	if err := <-s.ended; err != nil {
		t.Errorf("%v: %v", s.cmd.Spec.Args, err)
	}
	s.ended <- nil
}

func (s *sharer) line(t *testing.T) string {
	t.Helper()
	l, err := s.out.ReadString('\n')
	if err != nil {
		t.Fatalf("%v after %q", err, l)
	}
	return l
}

// testFollow has the guest look at a file right after each change of the host.
// It may believe for a tick of its clock what it has seen before.
func testFollow(ctx context.Context, t *testing.T, c cow.ProcessHost, dir string) {
	s := sharing(ctx, t, c, "/program/share", "/plain/followed", "follow")
	defer s.end(t)
	name := filepath.Join(dir, "followed")
	text := func(b string, mode os.FileMode) func() error {
		return func() error { return errors.Join(os.WriteFile(name, []byte(b), 0o600), os.Chmod(name, mode)) }
	}
	for range 10 {
		for _, c := range []struct {
			change func() error
			want   string
		}{
			{text("one", 0o640), "3 640 one\n"},
			{text("longer", 0o600), "6 600 longer\n"},
			{text("same!!", 0o600), "6 600 same!!\n"},
			{func() error { return os.Truncate(name, 1) }, "1 600 s\n"},
			{func() error {
				return errors.Join(os.WriteFile(name+".new", []byte("another"), 0o644), os.Rename(name+".new", name))
			}, "7 644 another\n"},
			{func() error { return os.Remove(name) }, "none\n"},
		} {
			if err := c.change(); err != nil {
				t.Fatal(err)
			}
			var got string
			for began := time.Now(); got != c.want && (got == "" || time.Since(began) < 100*time.Millisecond); {
				if _, err := io.WriteString(s.stdin, "?\n"); err != nil {
					t.Fatal(err)
				}
				got = s.line(t)
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		}
	}
}

// hostLocks takes both kinds of lock of a file.
func hostLocks(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err == nil {
		t.Cleanup(func() { f.Close() })
		err = errors.Join(tryLocks(f)...)
	}
	if err != nil {
		t.Fatalf("locking on the host: %v", err)
	}
	return f
}

func tryLocks(f *os.File) []error {
	return []error{
		unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB),
		unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}),
	}
}

// testLocks has locks of the host, of one container and of another exclude each
// other. Those of 9P are fcntl's to the host.
func testLocks(ctx context.Context, t *testing.T, c, other cow.ProcessHost, dir, fsType string) {
	const free, busy = "write 0: free\nwrite 5: free\nflock: free\n", "write 0: busy\nwrite 5: busy\nflock: busy\n"
	look := func(who string, host cow.ProcessHost, want string) {
		t.Helper()
		if got := do(ctx, t, host, "/program/share /plain/lock lock"); got.stdout != want || got.code != 0 {
			t.Errorf("%s: %+v, want %q", who, got, want)
		}
	}
	name := filepath.Join(dir, "lock")
	f := hostLocks(t, name)
	look("while the host has them", c, busy)
	f.Close()
	look("when the host has given them up", c, free)

	s := sharing(ctx, t, c, "/program/share", "/plain/lock", "keep")
	if got := s.line(t); got != "held\n" {
		t.Fatalf("got %q", got)
	}
	look("the same container", c, busy)
	look("another container", other, busy)
	g, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	errs := tryLocks(g)
	if fsType == "9p" {
		errs = errs[1:]
	}
	for _, err := range errs {
		if !errors.Is(err, unix.EAGAIN) {
			t.Errorf("locking on the host what a container has: %v", err)
		}
	}
	g.Close()
	s.end(t)
	look("when the container has given them up", other, free)

	// Who waits gets it.
	f = hostLocks(t, name)
	s = sharing(ctx, t, c, "/program/share", "/plain/lock", "block")
	if got := s.line(t); got != "waiting\n" {
		t.Fatalf("got %q", got)
	}
	f.Close()
	if got := s.line(t); got != "got it\n" {
		t.Errorf("got %q", got)
	}
	s.end(t)
}

// testWaits waits for locks that the host has all the time.
func testWaits(ctx context.Context, t *testing.T, c cow.ProcessHost, dir string) {
	defer hostLocks(t, filepath.Join(dir, "lock")).Close()
	if got := do(ctx, t, c, "/program/share /plain/lock waits"); got.code != 0 || got.stdout+got.stderr != "" {
		t.Errorf("%+v", got)
	}
}

// testShareInUse cannot remove a share while a file of it is open.
func testShareInUse(ctx context.Context, t *testing.T, vm *uvm.UtilityVM, bin, dir string) {
	tools, err := vm.AddPlan9(ctx, bin, "/run/mounts/tools", true, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	share, err := vm.AddPlan9(ctx, dir, "/run/mounts/used", false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := sharing(ctx, t, vm, "/run/mounts/tools/share", "/run/mounts/used/f", "keep")
	if got := s.line(t); got != "held\n" {
		t.Fatalf("got %q", got)
	}
	if err := share.Release(ctx); err == nil {
		t.Error("a share was removed under an open file")
	}
	s.end(t)
	for _, s := range []*uvm.Plan9Share{share, tools} {
		if err := s.Release(ctx); err != nil {
			t.Error(err)
		}
	}
	hostLocks(t, filepath.Join(dir, "f")).Close() // nobody has them any more
}
