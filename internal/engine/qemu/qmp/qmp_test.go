//go:build unix

package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

const greeting = `{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, "capabilities": ["oob"]}}` + "\r\n"

// pair returns the two ends of a stream socket.
func pair(t *testing.T) (*net.UnixConn, *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "qmp")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		conns[i] = c.(*net.UnixConn)
	}
	return conns[0], conns[1]
}

// peer answers capabilities and then each command with what answer returns,
// or with silence.
func peer(conn *net.UnixConn, answer func(command string, id json.RawMessage) string) {
	io.WriteString(conn, greeting)
	for s := bufio.NewScanner(conn); s.Scan(); {
		var m struct {
			Execute string
			ID      json.RawMessage
		}
		if json.Unmarshal(s.Bytes(), &m) != nil {
			return
		}
		if m.Execute == "qmp_capabilities" {
			fmt.Fprintf(conn, `{"return": {}, "id": %s}`+"\r\n", m.ID)
			continue
		}
		io.WriteString(conn, answer(m.Execute, m.ID))
	}
}

func connect(t *testing.T, events func(Event), answer func(string, json.RawMessage) string) *Client {
	t.Helper()
	a, b := pair(t)
	go peer(b, answer)
	c, err := New(t.Context(), a, events)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestExecute(t *testing.T) {
	var events []string
	c := connect(t, func(e Event) { events = append(events, e.Name+string(e.Data)) }, func(cmd string, id json.RawMessage) string {
		if cmd == "bad" {
			return fmt.Sprintf(`{"id": %s, "error": {"class": "GenericError", "desc": "no such thing"}}`+"\r\n", id)
		}
		return fmt.Sprintf(`{"event": "STOP", "data": {"a": 1}}`+"\r\n"+`{"id": %s, "return": {"name": %q}}`+"\r\n", id, cmd)
	})
	if got, want := c.Version().String(), "7.2.22"; got != want {
		t.Errorf("version %s, want %s", got, want)
	}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			var got struct{ Name string }
			name := fmt.Sprintf("cmd-%d", i)
			if err := c.Execute(t.Context(), name, map[string]any{"x": i}, &got); err != nil || got.Name != name {
				t.Errorf("Execute(%s) = %+v, %v", name, got, err)
			}
		})
	}
	wg.Wait()
	var qe *Error
	if err := c.Execute(t.Context(), "bad", nil, nil); !errors.As(err, &qe) || qe.Command != "bad" || qe.Class != "GenericError" {
		t.Errorf("got %v, want the error of QEMU", err)
	}
	c.Close()
	if len(events) != 20 || events[0] != `STOP{"a": 1}` {
		t.Errorf("events %q", events)
	}
	if err := c.Execute(t.Context(), "late", nil, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

func TestExecuteEndsWithContextAndConnection(t *testing.T) {
	c := connect(t, nil, func(cmd string, _ json.RawMessage) string {
		if cmd == "garbage" {
			return "}{\n"
		}
		return ""
	})
	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan error, 1)
	go func() { waiting <- c.Execute(t.Context(), "silent", nil, nil) }()
	cancel()
	if err := c.Execute(ctx, "silent", nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
	if err := c.Execute(t.Context(), "garbage", nil, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
	if err := <-waiting; !errors.Is(err, ErrClosed) {
		t.Errorf("waiter got %v, want ErrClosed", err)
	}
	<-c.Done()
}

// A peer that stops reading does not hold a caller beyond its context.
func TestExecuteToDeafPeer(t *testing.T) {
	a, b := pair(t)
	go func() {
		io.WriteString(b, greeting)
		line, _ := bufio.NewReaderSize(b, 4096).ReadString('\n')
		if strings.Contains(line, "qmp_capabilities") {
			io.WriteString(b, `{"return": {}, "id": 1}`+"\n")
		}
	}()
	c, err := New(t.Context(), a, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	big := strings.Repeat("x", 1<<20)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if err := c.Execute(ctx, "silent", big, nil); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want canceled", err)
			}
		})
	}
	cancel()
	wg.Wait()
}

func TestExecuteFile(t *testing.T) {
	a, b := pair(t)
	got := make(chan string, 1)
	go func() {
		io.WriteString(b, greeting)
		buf, oob := make([]byte, 4096), make([]byte, 64)
		for id := 1; ; id++ {
			n, on, _, _, err := b.ReadMsgUnix(buf, oob)
			if err != nil {
				return
			}
			if on > 0 {
				scm, _ := unix.ParseSocketControlMessage(oob[:on])
				fds, _ := unix.ParseUnixRights(&scm[0])
				f := os.NewFile(uintptr(fds[0]), "got")
				s, _ := io.ReadAll(f)
				f.Close()
				got <- string(s)
			}
			if n > 0 {
				fmt.Fprintf(b, `{"return": {"fd": 7}, "id": %d}`+"\n", id)
			}
		}
	}()
	c, err := New(t.Context(), a, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(p, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(p)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var set struct{ FD int }
	if err := c.ExecuteFile(t.Context(), "add-fd", nil, &set, f); err != nil || set.FD != 7 {
		t.Fatalf("got %+v, %v", set, err)
	}
	if s := <-got; s != "content" {
		t.Errorf("peer read %q", s)
	}
}

func TestNewFails(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":  "",
		"garbage":  "hello\n",
		"no QMP":   "{}\n",
		"endless":  strings.Repeat("x", MaxLine+(1<<20)),
		"cut":      `{"QMP": {`,
		"bad caps": greeting + `{"error": {"class": "GenericError", "desc": "no"}, "id": 1}` + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t)
			go func() {
				io.WriteString(b, text)
				b.CloseWrite()
				io.Copy(io.Discard, b)
			}()
			if c, err := New(t.Context(), a, nil); err == nil {
				c.Close()
				t.Error("no error")
			}
		})
	}
	t.Run("canceled", func(t *testing.T) {
		a, _ := pair(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := New(ctx, a, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

func FuzzReceive(f *testing.F) {
	f.Add([]byte(`{"event": "STOP"}` + "\n"))
	f.Add([]byte(`{"return": {}, "id": 2}` + "\n"))
	f.Add([]byte(`{"error": {"class": 1}, "id": null}` + "\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := &Client{calls: map[int]chan reply{1: make(chan reply, 1)}, done: make(chan struct{}), events: func(Event) {}}
		r := bufio.NewReader(strings.NewReader(string(b)))
		for {
			line, err := readLine(r)
			if err != nil {
				return
			}
			if c.handle(line) != nil {
				return
			}
		}
	})
}
