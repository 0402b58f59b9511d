package bridge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/byrevm/byre/schema1"
)

// A peer is a guest that does what the test says.
type peer struct {
	t    *testing.T
	conn net.Conn
}

// next returns the next request.
func (p *peer) next() frame {
	p.t.Helper()
	f, err := readFrame(p.conn)
	if err != nil {
		p.t.Errorf("peer: %v", err)
	}
	return f
}

// read returns the next request of a procedure, decoded.
func read[Req, Resp any](p *peer, rpc RPC[Req, Resp]) (frame, *Req) {
	p.t.Helper()
	f, r := p.next(), new(Req)
	if f.Type != rpc.Type {
		p.t.Errorf("peer: got %v, want %v", f.Type, rpc.Type)
	}
	if err := json.Unmarshal(f.Body, r); err != nil {
		p.t.Errorf("peer: %v", err)
	}
	return f, r
}

func (p *peer) send(t Type, id uint64, v any) {
	p.t.Helper()
	b, err := encode(t, id, v)
	if err == nil {
		_, err = p.conn.Write(b)
	}
	if err != nil {
		p.t.Errorf("peer: %v", err)
	}
}

func (p *peer) answer(f frame, v any) { p.t.Helper(); p.send(f.Type.Response(), f.ID, v) }

var quiet = slog.New(slog.DiscardHandler)

// connect returns a client and the guest that it is connected to.
func connect(t *testing.T, c Config, caps Capabilities) (*Client, *peer) {
	t.Helper()
	h, g := net.Pipe()
	p := &peer{t, g}
	if c.Logger == nil {
		c.Logger = quiet
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		f, r := read(p, negotiate)
		if f.ID != 0 || r.MinimumVersion != 4 || r.MaximumVersion != 4 {
			t.Errorf("first message: id %d, %+v", f.ID, r)
		}
		p.answer(f, &negotiateResponse{Version: 4, Capabilities: caps})
	})
	cl, err := Connect(t.Context(), h, c)
	if err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	t.Cleanup(func() {
		cl.Close()
		g.Close()
	})
	return cl, p
}

var linux = Capabilities{RuntimeOSType: "Linux", GuestDefinedCapabilities: schema1.GuestDefinedCapabilities{DeleteContainerStateSupported: true}}

func closed(t *testing.T, ch <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(30 * time.Second):
		t.Fatalf("%s: not done after 30 s", what)
	}
}

func TestCase25RoundTrip(t *testing.T) {
	c, p := connect(t, Config{}, linux)
	go func() {
		for range 100 {
			f, r := read(p, ModifySettings)
			p.answer(f, &Response{Result: ErrFail, ErrorMessage: string(r.Settings)})
		}
	}()
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			err := c.Modify(t.Context(), i)
			var e *Error
			if !errors.As(err, &e) || e.Message != fmt.Sprint(i) {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	wg.Wait()
}

// B43: an answer that comes too late fails its request and nothing else.
func TestCase26Timeout(t *testing.T) {
	c, p := connect(t, Config{Timeout: 100 * time.Millisecond}, linux)
	late := make(chan frame, 1)
	go func() { late <- p.next() }()
	if err := c.Modify(t.Context(), 1); !errors.Is(err, ErrNoAnswer) || errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want %v", err, ErrNoAnswer)
	}
	go func() {
		p.answer(<-late, &Response{})
		p.answer(p.next(), &DumpStacksResponse{GuestStacks: "s"})
	}()
	c.config.Timeout = defaultTimeout
	if s, err := c.DumpStacks(t.Context()); s != "s" || err != nil {
		t.Errorf("the bridge is broken: %v", err)
	}
}

func TestCase27Deadline(t *testing.T) {
	c, p := connect(t, Config{}, linux)
	go p.next()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.DumpStacks(ctx); err != context.DeadlineExceeded {
		t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
	}
}

// Case 28 of the reference: a request that it cannot cancel. Here all can be
// (DESIGN §7: a call ends when its context ends), also while the peer does
// not even read.
func TestCase28CancelUnread(t *testing.T) {
	c, _ := connect(t, Config{}, linux)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Modify(ctx, 1); err != context.Canceled {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	for range 3 { // the first is being written, the others wait
		if err := c.Modify(ctx, 1); err != context.DeadlineExceeded {
			t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
		}
	}
}

func TestCase29AfterFailure(t *testing.T) {
	c, p := connect(t, Config{}, linux)
	cause := errors.New("the sky fell")
	c.fail(cause)
	for range 2 {
		if _, err := c.DumpStacks(t.Context()); !errors.Is(err, cause) || !errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want %v and %v", err, ErrClosed, cause)
		}
	}
	closed(t, c.Done(), "bridge")
	if err := c.Err(); !errors.Is(err, cause) {
		t.Errorf("Err: %v", err)
	}
	if err := c.Close(); !errors.Is(err, cause) {
		t.Errorf("Close: %v", err)
	}
	p.conn.Close()
}

// B47: nobody sees an end without its cause.
func TestErrBeforeDone(t *testing.T) {
	c, p := connect(t, Config{}, linux)
	go p.conn.Close()
	<-c.Done()
	if err := c.Err(); err != ErrClosed {
		t.Errorf("got %v, want %v", err, ErrClosed)
	}
	if err := c.Close(); err != nil {
		t.Errorf("close after an orderly end: %v", err)
	}
}

func createContainer(t *testing.T, c *Client, p *peer, id string) *container {
	t.Helper()
	go func() {
		f, _ := read(p, Create)
		p.answer(f, &Response{})
	}()
	ctr, err := c.CreateContainer(t.Context(), id, struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	return ctr.(*container)
}

func TestCase30Notification(t *testing.T) {
	c, p := connect(t, Config{}, linux)
	ctr := createContainer(t, c, p, "c1")
	for _, n := range []string{
		`{"ContainerId":"c1","Type":"Constructed","ResultInfo":"null"}`, `{"ContainerId":"c1","Type":"Started"}`, `{"ContainerId":"c1","Type":"Paused"}`,
	} {
		p.conn.Write(rawFrame(typeNotification, uint32(16+len(n)), 0, []byte(n)))
	}
	select {
	case <-ctr.done:
		t.Error("a container that started has ended")
	default:
	}
	p.send(typeNotification, 0, map[string]any{"ContainerId": "c1", "Type": "UnexpectedExit", "Operation": "None", "Result": 0, "ResultInfo": "null"})
	if err := ctr.Wait(); err != nil {
		t.Errorf("wait: %v", err)
	}
}

// B44, and case 31 of the reference, where such a notification ends the
// bridge.
func TestCase31And91StrayMessages(t *testing.T) {
	var log bytes.Buffer
	c, p := connect(t, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}, linux)
	ctr := createContainer(t, c, p, "c1")
	got := make(chan error, 1)
	go func() {
		_, err := c.DumpStacks(t.Context())
		got <- err
	}()
	f := p.next()
	p.send(typeNotification, 0, Exited("nobody", NotifyForcedExit))
	p.send(typeNotification, 0, Exited("c1", NotifyForcedExit))
	p.send(typeNotification, 0, Exited("c1", NotifyForcedExit)) // again
	p.send(0x30100201, 0, Exited("c1", NotifyForcedExit))       // another kind
	p.send(typeNotification, 0, []int{1})                       // not one at all
	p.send(Start.Type.Response(), 4711, &Response{})            // to no request
	p.answer(f, &Response{})
	if err := <-got; err != nil {
		t.Errorf("request in flight: %v", err)
	}
	if err := ctr.Wait(); err != nil {
		t.Errorf("wait: %v", err)
	}
	if n := c.Strays(); n != 5 {
		t.Errorf("%d strays, want 5", n)
	}
	c.Close()
	if n := strings.Count(log.String(), "\n"); n != 3 { // the 1st, 2nd and 4th
		t.Errorf("logged:\n%s", log.String())
	}
}

func TestProtocolViolations(t *testing.T) {
	for name, b := range map[string][]byte{
		"request from the guest": rawFrame(Create.Type, 18, 0, []byte("{}")),
		"kind 0":                 rawFrame(0x00100101, 18, 0, []byte("{}")),
		"size 15":                rawFrame(Create.Type.Response(), 15, 0, nil),
		"size 4 GiB":             rawFrame(Create.Type.Response(), 0xffffffff, 0, nil),
		"not the protocol":       []byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			c, p := connect(t, Config{}, linux)
			ctr := createContainer(t, c, p, "c1")
			go p.conn.Write(b)
			closed(t, c.Done(), "bridge")
			if err := c.Err(); !errors.Is(err, ErrProtocol) {
				t.Errorf("got %v, want %v", err, ErrProtocol)
			}
			if err := ctr.Wait(); !errors.Is(err, ErrClosed) || !errors.Is(err, ErrProtocol) {
				t.Errorf("wait: got %v, want the cause", err)
			}
		})
	}
}

// What one answer does wrong fails one request.
func TestBadAnswers(t *testing.T) {
	c, p := connect(t, Config{}, linux)
	for name, answer := range map[string]func(frame){
		"wrong type": func(f frame) { p.send(Create.Type.Response(), f.ID, &Response{}) },
		"no object":  func(f frame) { p.answer(f, []int{1}) },
		"no JSON": func(f frame) {
			p.conn.Write(rawFrame(f.Type.Response(), 18, f.ID, []byte(`{"`)))
		},
		"wrong member": func(f frame) { p.answer(f, map[string]any{"Result": "x"}) },
		"bad result":   func(f frame) { p.answer(f, map[string]any{"Result": 1 << 40}) },
	} {
		go func() { answer(p.next()) }()
		if _, err := c.DumpStacks(t.Context()); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: got %v, want %v", name, err, ErrProtocol)
		}
	}
	go func() {
		p.answer(p.next(), map[string]any{"Result": 0, "ActivityId": "", "Toast": 1, "GuestStacks": "s"})
	}()
	if s, err := c.DumpStacks(t.Context()); s != "s" || err != nil {
		t.Errorf("after bad answers: %q, %v", s, err)
	}
}

func TestCase32Connect(t *testing.T) {
	c, _ := connect(t, Config{}, Capabilities{})
	if c.OS() != "windows" || c.Protocol() != 4 || c.Capabilities() != (schema1.GuestDefinedCapabilities{}) {
		t.Errorf("got %s, %d, %+v", c.OS(), c.Protocol(), c.Capabilities())
	}
	c, _ = connect(t, Config{}, linux)
	if c.OS() != "linux" || !c.Capabilities().DeleteContainerStateSupported {
		t.Errorf("got %s, %+v", c.OS(), c.Capabilities())
	}
}

func TestConnectHostMessages(t *testing.T) {
	h, g := net.Pipe()
	p := &peer{t, g}
	var wg sync.WaitGroup
	wg.Go(func() {
		f := p.next()
		p.answer(f, &negotiateResponse{Version: 4, Capabilities: Capabilities{SendHostCreateMessage: true, SendHostStartMessage: true, HvSocketConfigOnStartup: true}})
		f, cr := read(p, Create)
		if cr.ContainerID != NilContainer || string(cr.Config) != `{"SystemType":"Container"}` || f.ID != 1 {
			t.Errorf("create: %+v, config %s", cr, cr.Config)
		}
		p.answer(f, &Response{})
		f, st := read(p, Start)
		if st.ContainerID != NilContainer || f.ID != 2 {
			t.Errorf("start: %+v", st)
		}
		p.answer(f, &Response{})
	})
	c, err := Connect(t.Context(), h, Config{})
	if err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if !c.GuestCapabilities().HvSocketConfigOnStartup {
		t.Error("HvSocketConfigOnStartup was lost")
	}
	c.Close()
}

func TestConnectFails(t *testing.T) {
	all := Capabilities{SendHostCreateMessage: true, SendHostStartMessage: true}
	for name, c := range map[string]struct {
		answers []any
		want    error
	}{
		"refused":       {[]any{&Response{Result: ErrUnsupportedVersion}}, ErrUnsupportedVersion},
		"version 3":     {[]any{&negotiateResponse{Version: 3}}, ErrProtocol},
		"no version":    {[]any{&Response{}}, ErrProtocol},
		"gone":          {nil, ErrClosed},
		"create failed": {[]any{&negotiateResponse{Version: 4, Capabilities: all}, &Response{Result: ErrFail}}, ErrFail},
		"start failed":  {[]any{&negotiateResponse{Version: 4, Capabilities: all}, &Response{}, &Response{Result: ErrInvalidState}}, ErrInvalidState},
	} {
		t.Run(name, func(t *testing.T) {
			h, g := net.Pipe()
			p := &peer{t, g}
			go func() {
				for _, a := range c.answers {
					p.answer(p.next(), a)
				}
				if c.answers == nil {
					p.next()
					g.Close()
				}
			}()
			if _, err := Connect(t.Context(), h, Config{}); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if _, err := h.Write([]byte{0}); err != io.ErrClosedPipe {
				t.Errorf("the connection is open: %v", err)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	h, g := net.Pipe()
	go func() {
		(&peer{t, g}).next()
		cancel()
	}()
	if _, err := Connect(ctx, h, Config{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestTraceAndObserve(t *testing.T) {
	type key struct{}
	var mu sync.Mutex
	var seen []string
	c, p := connect(t, Config{
		Trace: func(ctx context.Context) *Trace {
			if ctx.Value(key{}) == nil {
				return nil
			}
			return NewTrace([16]byte{1}, [8]byte{2}, 1)
		},
		Observe: func(m Message) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, fmt.Sprint(m.Type, " ", m.ID, " ", m.Sent, " ", len(m.Body) > 0))
		},
	}, linux)
	for _, ctx := range []context.Context{t.Context(), context.WithValue(t.Context(), key{}, 1)} {
		go func() {
			f := p.next()
			if has := bytes.Contains(f.Body, []byte("ocsc")); has != (ctx.Value(key{}) != nil) {
				t.Errorf("trace is wrong in %s", f.Body)
			}
			p.answer(f, &Response{})
		}()
		if err := c.Modify(ctx, 1); err != nil {
			t.Error(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	want := "NegotiateProtocol 0 true true,NegotiateProtocol 0 false true,ModifySettings 1 true true,ModifySettings 1 false true,ModifySettings 2 true true,ModifySettings 2 false true"
	if got := strings.Join(seen, ","); got != want {
		t.Errorf("saw  %s\nwant %s", got, want)
	}
}

// B51c: ports do not repeat while they are in use, and wrap.
func TestPorts(t *testing.T) {
	var p ports
	take := func() uint32 {
		t.Helper()
		port, err := p.take()
		if err != nil {
			t.Fatal(err)
		}
		return port
	}
	if a, b := take(), take(); a != firstPort || b != firstPort+1 {
		t.Errorf("got %#x, %#x", a, b)
	}
	p.free(firstPort)
	if a := take(); a != firstPort+2 {
		t.Errorf("a port was used again at once: %#x", a)
	}
	p.next = lastPort
	if a, b, c := take(), take(), take(); a != lastPort || b != firstPort || c != firstPort+3 {
		t.Errorf("got %#x, %#x, %#x", a, b, c)
	}
}

// Whatever a guest sends, a client ends in order.
func FuzzClient(f *testing.F) {
	ok, err := encode(negotiate.Type.Response(), 0, &negotiateResponse{Version: 4, Capabilities: linux})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ok)
	f.Add(append(ok, rawFrame(typeNotification, 35, 0, []byte(`{"ContainerId":"c1"}`))...))
	f.Add(append(ok, rawFrame(Create.Type.Response(), 18, 1, []byte(`{}`))...))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Connect(t.Context(), &scripted{r: bytes.NewReader(b)}, Config{Logger: quiet})
		if err != nil {
			return
		}
		ctr, err := c.CreateContainer(t.Context(), "c1", struct{}{})
		if err == nil {
			ctr.CreateProcess(t.Context(), struct{}{})
			ctr.Wait()
		}
		c.Close()
	})
}

// A scripted connection reads what was written before.
type scripted struct {
	net.Conn
	r io.Reader
}

func (s *scripted) Read(b []byte) (int, error)  { return s.r.Read(b) }
func (s *scripted) Write(b []byte) (int, error) { return len(b), nil }
func (s *scripted) Close() error                { return nil }

// What a guest says of an error has a limit.
func TestErrorBounds(t *testing.T) {
	c, p := connect(t, Config{}, linux)
	long := strings.Repeat("ä", 10<<10)
	go func() {
		r := &Response{Result: ErrFail, ErrorMessage: long}
		for range 10 {
			r.ErrorRecords = append(r.ErrorRecords, ErrorRecord{Message: long, StackTrace: long})
		}
		p.answer(p.next(), r)
	}()
	var e *Error
	if err := c.Modify(t.Context(), 1); !errors.As(err, &e) || len(e.Message) > maxText+3 || len(e.Records) != maxRecords || len(e.Records[0].StackTrace) > maxText+3 {
		t.Errorf("the error is %.1000v", err)
	}
}
