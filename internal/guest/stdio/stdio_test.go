//go:build linux

package stdio

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var quiet = slog.New(slog.DiscardHandler)

// pair is a connection: a stream socket has the half-closes of vsock.
func pair(t *testing.T) (guest, host *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		ends[i] = c.(*net.UnixConn)
		t.Cleanup(func() { c.Close() })
	}
	return ends[0], ends[1]
}

func done(f func()) <-chan struct{} {
	d := make(chan struct{})
	go func() {
		defer close(d)
		f()
	}()
	return d
}

func within(t *testing.T, what string, d <-chan struct{}) {
	t.Helper()
	select {
	case <-d:
	case <-time.After(20 * time.Second):
		t.Fatal(what + " did not end")
	}
}

func pipes(t *testing.T) *Pipes {
	t.Helper()
	p, err := NewPipes(quiet)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestOutputHandshake(t *testing.T) {
	p := pipes(t)
	out, host := pair(t)
	p.Start(Conns{Out: out})
	io.WriteString(p.Child()[1], "hello")
	p.CloseChild() // the process ends
	exited := done(p.Exited)
	b, err := io.ReadAll(host)
	if string(b) != "hello" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
	// The host has everything, but has not said so.
	select {
	case <-exited:
		t.Error("the exit was reported before the host closed the stream")
	case <-time.After(50 * time.Millisecond):
	}
	host.Close()
	within(t, "the relay", exited)
}

func TestOutputComplete(t *testing.T) {
	p := pipes(t)
	out, hostOut := pair(t)
	errc, hostErr := pair(t)
	p.Start(Conns{Out: out, Err: errc})
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 4 MiB
	go func() {
		p.Child()[1].Write(big)
		io.WriteString(p.Child()[2], "err")
		p.CloseChild()
	}()
	var gotErr []byte
	d := done(func() { gotErr, _ = io.ReadAll(hostErr); hostErr.Close() })
	got, err := io.ReadAll(hostOut)
	if err != nil || !bytes.Equal(got, big) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	hostOut.Close()
	within(t, "stderr", d)
	if string(gotErr) != "err" {
		t.Errorf("stderr: got %q", gotErr)
	}
	within(t, "the relay", done(p.Exited))
}

func TestSlowReaderBlocksItsStreamOnly(t *testing.T) {
	p := pipes(t)
	out, hostOut := pair(t) // nobody reads this
	errc, hostErr := pair(t)
	p.Start(Conns{Out: out, Err: errc})
	child := p.Child()
	writer := done(func() { child[1].Write(make([]byte, 8<<20)) })
	io.WriteString(child[2], "through")
	b := make([]byte, 7)
	if _, err := io.ReadFull(hostErr, b); err != nil || string(b) != "through" {
		t.Errorf("got %q, %v", b, err)
	}
	select {
	case <-writer:
		t.Error("a writer was not held up by a host that does not read")
	default:
	}
	hostOut.Close() // the connection breaks: a broken pipe for the process
	within(t, "the writer", writer)
	p.CloseChild()
	hostErr.Close()
	within(t, "the relay", done(p.Exited))
}

func TestHostGone(t *testing.T) {
	p := pipes(t)
	out, host := pair(t)
	p.Start(Conns{Out: out})
	host.Close()
	for {
		if _, err := p.Child()[1].Write([]byte("x")); err != nil {
			if !errors.Is(err, unix.EPIPE) {
				t.Errorf("got %v, want %v", err, unix.EPIPE)
			}
			break
		}
	}
	p.CloseChild()
	within(t, "the relay", done(p.Exited))
}

func TestInput(t *testing.T) {
	p := pipes(t)
	in, host := pair(t)
	p.Start(Conns{In: in})
	io.WriteString(host, "to the process")
	host.CloseWrite()
	b, err := io.ReadAll(p.Child()[0])
	if string(b) != "to the process" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
	p.CloseChild()
	within(t, "the relay", done(p.Exited))
}

func TestExitEndsInput(t *testing.T) {
	for _, name := range []string{"idle", "full"} {
		t.Run(name, func(t *testing.T) {
			p := pipes(t)
			in, host := pair(t)
			p.Start(Conns{In: in})
			if name == "full" { // a process that does not read
				host.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
				host.Write(make([]byte, 8<<20))
			}
			// What the process has left behind may still have its input.
			p.Child()[1].Close()
			p.Child()[2].Close()
			within(t, "the relay", done(p.Exited))
			p.Child()[0].Close()
			host.SetReadDeadline(time.Now().Add(20 * time.Second))
			if _, err := host.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the host's end: got %v, want its end", err)
			}
		})
	}
}

func TestWithoutStreams(t *testing.T) {
	p := pipes(t)
	p.Start(Conns{})
	if b, err := io.ReadAll(p.Child()[0]); len(b) > 0 || err != nil {
		t.Errorf("stdin: got %q, %v; want its end", b, err)
	}
	if _, err := p.Child()[1].Write(make([]byte, 4<<20)); err != nil {
		t.Errorf("stdout: got %v, want it thrown away", err)
	}
	p.CloseChild()
	within(t, "the relay", done(p.Exited))
	if err := p.Resize(1, 1); !errors.Is(err, ErrNoTerminal) {
		t.Errorf("got %v, want %v", err, ErrNoTerminal)
	}
}

func TestAbandon(t *testing.T) {
	before := countFDs(t)
	p := pipes(t)
	p.Abandon()
	if got := countFDs(t); got != before {
		t.Errorf("got %d descriptors, want %d", got, before)
	}
}

func countFDs(t *testing.T) int {
	t.Helper()
	e, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(e)
}

func TestNothingLeaks(t *testing.T) {
	var before int
	for n := range 20 {
		if n == 5 {
			before = countFDs(t)
		}
		p := pipes(t)
		out, host := pair(t)
		in, hostIn := pair(t)
		p.Start(Conns{In: in, Out: out})
		p.CloseChild()
		io.ReadAll(host)
		host.Close()
		p.Exited()
		hostIn.Close()
	}
	if got := countFDs(t); got > before {
		t.Errorf("got %d descriptors, want %d", got, before)
	}
}

func TestTerminal(t *testing.T) {
	term, slave, err := OpenTerminal(quiet)
	if err != nil {
		t.Skipf("no terminals: %v", err)
	}
	in, hostIn := pair(t)
	out, hostOut := pair(t)
	term.Start(Conns{In: in, Out: out})
	if err := term.Resize(30, 100); err != nil {
		t.Fatal(err)
	}
	ws, err := unix.IoctlGetWinsize(int(slave.Fd()), unix.TIOCGWINSZ)
	if err != nil || ws.Row != 30 || ws.Col != 100 {
		t.Errorf("got %v, %v", ws, err)
	}
	io.WriteString(hostIn, "line\n")
	b := make([]byte, 100)
	n, err := slave.Read(b)
	if string(b[:n]) != "line\n" || err != nil {
		t.Errorf("got %q, %v", b[:n], err)
	}
	hostIn.CloseWrite() // not the end of the terminal
	io.WriteString(slave, "out\n")
	slave.Close()
	exited := done(term.Exited)
	got, err := io.ReadAll(hostOut)
	if want := "line\r\nout\r\n"; string(got) != want || err != nil {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	hostOut.Close()
	within(t, "the relay", exited)
	if err := term.Resize(1, 1); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("after the end: got %v, want %v", err, os.ErrProcessDone)
	}
}

func TestTerminalWithoutStreams(t *testing.T) {
	term, slave, err := OpenTerminal(quiet)
	if err != nil {
		t.Skipf("no terminals: %v", err)
	}
	term.Start(Conns{})
	io.WriteString(slave, strings.Repeat("x", 1<<16))
	slave.Close()
	within(t, "the relay", done(term.Exited))
}

type timeoutError struct{}

func (timeoutError) Error() string   { return "timeout" }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }

func TestDial(t *testing.T) {
	var dialed []uint32
	refuse := map[uint32]error{}
	dial := func(_ context.Context, port uint32) (Conn, error) {
		dialed = append(dialed, port)
		if err := refuse[port]; err != nil {
			if errors.Is(err, timeoutError{}) {
				delete(refuse, port) // answered at the second try
			}
			return nil, err
		}
		c, _ := pair(t)
		return c, nil
	}
	c, err := Dial(t.Context(), Ports{In: 3, Out: 1, Err: 2}, dial)
	if err != nil || fmt.Sprint(dialed) != "[3 1 2]" || c.In == nil || c.Out == nil || c.Err == nil {
		t.Errorf("got %v, %v, %v", c, dialed, err)
	}
	c.Close()

	dialed = nil
	refuse[2] = timeoutError{}
	c, err = Dial(t.Context(), Ports{Err: 2}, dial)
	if err != nil || fmt.Sprint(dialed) != "[2 2]" || c.In != nil || c.Out != nil {
		t.Errorf("got %v, %v, %v", c, dialed, err)
	}
	c.Close()

	before := countFDs(t)
	refused := errors.New("refused")
	refuse[2] = refused
	c, err = Dial(t.Context(), Ports{In: 3, Out: 1, Err: 2}, dial)
	if !errors.Is(err, refused) || c != (Conns{}) {
		t.Errorf("got %v, %v; want nothing and %v", c, err, refused)
	}
	if got := countFDs(t); got > before+2 { // the hosts' ends
		t.Errorf("got %d descriptors, want %d", got, before+2)
	}
}

func TestFiles(t *testing.T) {
	out, host := pair(t)
	files, err := Files(Conns{Out: out})
	if err != nil {
		t.Fatal(err)
	}
	out.Close()
	if _, err := files[1].WriteString("direct"); err != nil {
		t.Error(err)
	}
	for _, f := range files {
		f.Close()
	}
	if b, err := io.ReadAll(host); string(b) != "direct" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
	if err := (Direct{}).Resize(1, 1); !errors.Is(err, ErrNoTerminal) {
		t.Errorf("got %v, want %v", err, ErrNoTerminal)
	}
}
