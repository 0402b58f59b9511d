//go:build linux

package stdio

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newPipe is a pipe of blocking descriptors, as a process's streams are.
func newPipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	p, err := NewPipes(quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Abandon)
	return p.outs[0], p.child[1]
}

func TestDrain(t *testing.T) {
	r, w := newPipe(t)
	d, err := newDrain(r)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 3*pipeSize+12345)
	rand.NewChaCha8([32]byte{7}).Read(want)
	go func() {
		for b := want; len(b) > 0; { // single bytes and large pieces, so that pages are not full
			n := min(len(b), 1+len(b)%70000)
			w.Write(b[:n])
			b = b[n:]
		}
		w.Close()
	}()
	got, err := io.ReadAll(d)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %d bytes, %v; want the %d that were written", len(got), err, len(want))
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

func TestDrainReadsAPart(t *testing.T) {
	r, w := newPipe(t)
	d, err := newDrain(r)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	w.WriteString("one two")
	for _, want := range []string{"one", " tw", "o"} {
		b := make([]byte, 3)
		n, err := d.Read(b)
		if got := string(b[:n]); got != want || err != nil {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
}

func TestDrainNeedsAPipe(t *testing.T) {
	term, peer, err := OpenTerminal(quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer term.Abandon()
	defer peer.Close()
	for name, src := range map[string]io.Reader{"terminal": term.master, "buffer": &bytes.Buffer{}} {
		if _, err := newDrain(src); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("drain of a %s: got %v, want %v", name, err, errors.ErrUnsupported)
		}
	}
}

// A transfer of much goes through the largest buffer, and gives it back.
func TestTransferOfMuch(t *testing.T) {
	r, w := newPipe(t)
	near, far := pair(t)
	out, err := duplicate(near)
	if err != nil {
		t.Fatal(err)
	}
	near.Close()
	held, err := unix.FcntlInt(r.Fd(), unix.F_SETPIPE_SZ, 1<<20) // all that a process without privilege may have
	if err != nil {
		t.Fatal(err)
	}
	w.Write(make([]byte, held)) // the relay finds more than it reads at once
	ended := make(chan error, 1)
	go func() {
		defer out.Close()
		ended <- transfer(out, r)
	}()
	const size = 32 << 20
	go func() {
		w.Write(make([]byte, size-held))
		w.Close()
	}()
	far.SetReadDeadline(time.Now().Add(time.Minute))
	n, err := io.Copy(io.Discard, far)
	if n != size || err != nil {
		t.Errorf("%d bytes, %v; want %d", n, err, size)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := len(largest); n != 0 {
		t.Errorf("%d relays still have the largest buffer", n)
	}
}
