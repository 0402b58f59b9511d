//go:build linux

package virtio

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/virtio/virtiotest"
)

// Pieces and copies go through the same memory, in whatever portions.
func TestSegments(t *testing.T) {
	mem := []byte("abcdefghijklmnop")
	parts := [][]byte{mem[:3], mem[3:4], mem[4:10], mem[10:]}
	for first := range len(mem) + 1 {
		for second := range len(mem) - first + 3 {
			var n int
			c := NewChain(parts, nil, func(int, error) { n++ })
			head := c.In.Cut(first)
			pieces := c.In.Slice(second)
			if got := bytes.Join(pieces, nil); string(got) != string(mem[first:min(first+second, len(mem))]) {
				t.Fatalf("%d, %d: pieces %q", first, second, got)
			}
			rest := make([]byte, c.In.Len())
			b := make([]byte, first)
			if err := errors.Join(c.In.Take(rest), head.Take(b)); err != nil {
				t.Fatal(err)
			}
			if string(b) != string(mem[:first]) || string(rest) != string(mem[min(first+second, len(mem)):]) {
				t.Fatalf("%d, %d: got %q and %q", first, second, b, rest)
			}
			if c.In.Take(make([]byte, 1)) == nil || head.Take(make([]byte, 1)) == nil {
				t.Error("more than there is")
			}
			c.Done(0)
			if n != 1 {
				t.Errorf("done %d times", n)
			}
		}
	}
	if string(mem) != "abcdefghijklmnop" {
		t.Errorf("memory is now %q", mem)
	}
}

func panics(f func()) (yes bool) {
	defer func() { yes = recover() != nil }()
	f()
	return false
}

func TestMistakes(t *testing.T) {
	out := [][]byte{make([]byte, 10)}
	for name, f := range map[string]func(c *Chain){
		"done twice":      func(c *Chain) { c.Done(1); c.Done(1) },
		"done and failed": func(c *Chain) { c.Done(1); c.Fail(os.ErrInvalid) },
		"too much":        func(c *Chain) { c.Done(11) },
		"less than none":  func(c *Chain) { c.Done(-1) },
	} {
		if !panics(func() { f(NewChain(nil, out, func(int, error) {})) }) {
			t.Errorf("%s: no panic", name)
		}
	}
}

// A read goes from a file into the guest's memory, a write the other way.
func TestFileData(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() }) // after the device
	_, dr := boot(t, virtiotest.Config{Events: true, Indirect: true, Num: 1024, Piece: 4000}, func(q int, c *Chain) {
		if q == 0 {
			if _, err := unix.Pwritev(int(f.Fd()), c.In.Slice(c.In.Len()), 0); err != nil {
				c.Fail(err)
				return
			}
			c.Done(0)
			return
		}
		head := c.Out.Cut(2)
		n, err := unix.Preadv(int(f.Fd()), c.Out.Slice(c.Out.Len()), 0)
		if err = errors.Join(err, head.Put([]byte("ok"))); err != nil {
			c.Fail(err)
			return
		}
		c.Done(2 + n)
	})
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	dr.Submit(0, want, 16)
	got := dr.Submit(1, []byte("read"), 2+len(want))
	if string(got[:2]) != "ok" || !bytes.Equal(got[2:], want) {
		t.Errorf("got %d bytes, not the %d written", len(got)-2, len(want))
	}
}

// A device that finds that its driver talks nonsense ends.
func TestFail(t *testing.T) {
	d, dr := boot(t, virtiotest.Config{}, func(_ int, c *Chain) { c.Fail(errors.New("nonsense")) })
	dr.Go(1, []byte("x"), 1)
	ends(t, d, "test 1 ring: nonsense")
}

// A file that is cut while it is mapped must not kill the process.
func TestTruncatedMemory(t *testing.T) {
	const at = 1 << 40
	zero, err := os.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { zero.Close() })
	for name, use := range map[string]func(c *Chain) error{
		"take": func(c *Chain) error { return c.In.Take(make([]byte, 10)) },
		"put":  func(c *Chain) error { return c.Out.Put(make([]byte, 10)) },
		"preadv": func(c *Chain) error {
			_, err := unix.Preadv(int(zero.Fd()), c.Out.Slice(10), 0)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			result := make(chan error, 1)
			d, dr := boot(t, virtiotest.Config{}, func(_ int, c *Chain) {
				err := use(c)
				result <- err
				c.Fail(err)
			})
			extra := virtiotest.Memfd(t, 1<<20)
			dr.Do(virtiotest.AddMemReg, virtiotest.Words64(0, at, 1<<20, 1<<45, 0), extra)
			extra.Truncate(0)
			q := dr.Queue(1)
			dr.Describe(q.Desc, 0, virtiotest.Desc(at, 100, virtiotest.DescNext, 1))
			dr.Describe(q.Desc, 1, virtiotest.Desc(at+100, 100, virtiotest.DescWrite, 0))
			q.Offer(0)
			if err := <-result; err == nil {
				t.Error("it went well")
			}
			<-d.Done()
		})
	}
	// Nobody takes answers here: the driver would fault, too.
	quiet := func(t *testing.T, serve func(q int, c *Chain)) (*Device, *virtiotest.Driver) {
		d, dr := attach(t, virtiotest.Config{}, serve)
		dr.Handshake()
		dr.AddMemory()
		dr.Do(virtiotest.SetFeatures, virtiotest.Words64(virtiotest.FeatProtocol|virtiotest.FeatVersion1))
		dr.Queue(1).Start()
		return d, dr
	}
	t.Run("ring", func(t *testing.T) {
		d, dr := quiet(t, echo)
		dr.FD.Truncate(0)
		dr.Queue(1).DoKick()
		ends(t, d, "guest memory")
	})
	t.Run("used ring", func(t *testing.T) {
		here, goOn := make(chan struct{}), make(chan struct{})
		d, dr := quiet(t, func(_ int, c *Chain) {
			close(here)
			<-goOn
			c.Done(0)
		})
		dr.Describe(dr.Queue(1).Desc, 0, virtiotest.Desc(virtiotest.GuestBase, 1, 0, 0))
		dr.Queue(1).Offer(0)
		<-here
		dr.FD.Truncate(0)
		close(goOn)
		ends(t, d, "guest memory")
	})
}
