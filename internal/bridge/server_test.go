package bridge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A host is a host that does what the test says.
type host struct {
	t    *testing.T
	conn net.Conn
	id   uint64
}

func serve(t *testing.T, s *Server) *host {
	t.Helper()
	h, g := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- s.Serve(t.Context(), g) }()
	t.Cleanup(func() {
		h.Close()
		<-done
	})
	return &host{t: t, conn: h}
}

func negotiated(t *testing.T, s *Server) *host {
	t.Helper()
	h := serve(t, s)
	if r := h.call(negotiate.Type, &negotiateRequest{MinimumVersion: 4, MaximumVersion: 4}); r.Result != OK {
		t.Fatalf("negotiate: %+v", r)
	}
	return h
}

func (h *host) send(t Type, v any) uint64 {
	h.t.Helper()
	h.id++
	b, err := encode(t, h.id, v)
	if err == nil {
		_, err = h.conn.Write(b)
	}
	if err != nil {
		h.t.Errorf("host: %v", err)
	}
	return h.id
}

func (h *host) next() frame {
	h.t.Helper()
	f, err := readFrame(h.conn)
	if err != nil {
		h.t.Errorf("host: %v", err)
	}
	return f
}

func (h *host) response() (frame, *Response) {
	h.t.Helper()
	f, r := h.next(), new(Response)
	if err := json.Unmarshal(f.Body, r); err != nil {
		h.t.Errorf("host: %v", err)
	}
	return f, r
}

// call sends a request and returns its answer, which must be the next
// message.
func (h *host) call(t Type, v any) *Response {
	h.t.Helper()
	id := h.send(t, v)
	f, r := h.response()
	if f.Type != t.Response() || f.ID != id {
		h.t.Errorf("host: got %v, id %d; want %v, id %d", f.Type, f.ID, t.Response(), id)
	}
	return r
}

func newServer() *Server { return NewServer(ServerConfig{Logger: quiet}) }

func TestServerNegotiation(t *testing.T) {
	s := newServer()
	Handle(s, DumpStacks, func(context.Context, *Request) (*DumpStacksResponse, error) { return nil, nil })
	h := serve(t, s)
	for _, c := range []struct {
		typ  Type
		v    any
		want Result
	}{
		{DumpStacks.Type, &Request{}, ErrNotImplemented},
		{negotiate.Type, &negotiateRequest{MinimumVersion: 5, MaximumVersion: 6}, ErrUnsupportedVersion},
		{negotiate.Type, &negotiateRequest{MinimumVersion: 1, MaximumVersion: 3}, ErrUnsupportedVersion},
		{negotiate.Type, 7, ErrInvalidJSON},
		{DumpStacks.Type, &Request{}, ErrNotImplemented},
		{negotiate.Type, &negotiateRequest{MinimumVersion: 2, MaximumVersion: 9}, OK},
		{DumpStacks.Type, &Request{}, OK},
		{Create.Type, &CreateRequest{}, ErrNotImplemented}, // no handler
		{0x10100e01, &Request{}, ErrNotImplemented},
		{negotiate.Type, &negotiateRequest{MinimumVersion: 4, MaximumVersion: 4}, OK},
	} {
		if r := h.call(c.typ, c.v); r.Result != c.want {
			t.Errorf("%v %+v: got %v, want %v", c.typ, c.v, r.Result, c.want)
		}
	}
}

func TestServerErrors(t *testing.T) {
	s := NewServer(ServerConfig{Logger: quiet, MaxAnswer: ReferenceMaxMessage})
	Handle(s, DumpStacks, func(context.Context, *Request) (*DumpStacksResponse, error) {
		return &DumpStacksResponse{GuestStacks: strings.Repeat("x", ReferenceMaxMessage)}, nil
	})
	Handle(s, Start, func(context.Context, *Request) (*Response, error) { panic("oops") })
	Handle(s, DeleteContainerState, func(context.Context, *Request) (*Response, error) {
		return &Response{ErrorMessage: "not sent"}, errors.New(strings.Repeat("long", 100<<10))
	})
	Handle(s, WaitForProcess, func(context.Context, *WaitForProcessRequest) (*WaitForProcessResponse, error) {
		return nil, ErrElementNotFound
	})
	h := negotiated(t, s)
	const act = "11111111-2222-3333-4444-555555555555"
	for typ, want := range map[Type]Result{
		DumpStacks.Type: ErrTooLarge, Start.Type: ErrUnexpected, DeleteContainerState.Type: ErrFail, WaitForProcess.Type: ErrElementNotFound,
	} {
		r := h.call(typ, &Request{ActivityID: act})
		if r.Result != want || r.ActivityID != act || r.ErrorMessage == "" || len(r.ErrorMessage) > 2*maxText {
			t.Errorf("%v: got %+v, want %v", typ, r, want)
		}
		if len(r.ErrorRecords) != 1 || r.ErrorRecords[0].Result != want || r.ErrorRecords[0].ModuleName != "gcs" {
			t.Errorf("%v: records are %+v", typ, r.ErrorRecords)
		}
		if typ == Start.Type && !strings.Contains(r.ErrorRecords[0].StackTrace, "TestServerErrors") {
			t.Errorf("the stack of the panic is missing")
		}
	}
	if r := h.call(DumpStacks.Type, 7); r.Result != ErrInvalidJSON || r.ActivityID != "" {
		t.Errorf("bad JSON: %+v", r)
	}
}

func TestServerAfterResponse(t *testing.T) {
	s := newServer()
	Handle(s, Start, func(ctx context.Context, r *Request) (*Response, error) {
		AfterResponse(ctx, func() { s.Notify(Exited(r.ContainerID, NotifyForcedExit)) })
		AfterResponse(ctx, func() { s.Notify(Exited("second", NotifyForcedExit)) })
		return nil, nil
	})
	h := negotiated(t, s)
	for range 20 {
		h.call(Start.Type, &Request{ContainerID: "first"}) // the answer is first
		for _, want := range []string{"first", "second"} {
			f, n := h.next(), new(ContainerNotification)
			if err := json.Unmarshal(f.Body, n); err != nil || f.Type != typeNotification || n.ContainerID != want || f.ID != 0 {
				t.Fatalf("got %v %+v, %v; want a notification of %s", f.Type, n, err, want)
			}
		}
	}
}

func TestServerNoResponse(t *testing.T) {
	s := newServer()
	after := make(chan struct{})
	Handle(s, ShutdownForced, func(ctx context.Context, _ *Request) (*Response, error) {
		AfterResponse(ctx, func() { close(after) })
		return nil, ErrNoResponse
	})
	Handle(s, Start, func(context.Context, *Request) (*Response, error) { return nil, nil })
	h := negotiated(t, s)
	h.send(ShutdownForced.Type, &Request{})
	<-after
	if r := h.call(Start.Type, &Request{}); r.Result != OK {
		t.Errorf("start: %+v", r)
	}
}

// At most maxRunning requests work at a time; what ends something does not
// wait for them.
func TestServerBounds(t *testing.T) {
	s := newServer()
	var running, most atomic.Int32
	free := make(chan struct{})
	Handle(s, ModifySettings, func(ctx context.Context, _ *ModifySettingsRequest) (*Response, error) {
		n := running.Add(1)
		defer running.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-free
		return nil, nil
	})
	ok := func(context.Context, *Request) (*Response, error) { return nil, nil }
	Handle(s, ShutdownForced, ok)
	Handle(s, WaitForProcess, func(ctx context.Context, _ *WaitForProcessRequest) (*WaitForProcessResponse, error) {
		return nil, nil
	})
	h := negotiated(t, s)
	const n = 3 * maxRunning
	for range n {
		h.send(ModifySettings.Type, &ModifySettingsRequest{Settings: json.RawMessage("{}")})
	}
	if r := h.call(ShutdownForced.Type, &Request{}); r.Result != OK {
		t.Errorf("shutdown while the server is busy: %+v", r)
	}
	s.waits.Store(maxWaits)
	if r := h.call(WaitForProcess.Type, &WaitForProcessRequest{}); r.Result != ErrFail {
		t.Errorf("one wait too many: %+v", r)
	}
	s.waits.Store(0)
	if r := h.call(WaitForProcess.Type, &WaitForProcessRequest{}); r.Result != OK {
		t.Errorf("wait: %+v", r)
	}
	close(free)
	for range n {
		h.next()
	}
	if m := most.Load(); m > maxRunning {
		t.Errorf("%d requests were worked on at once, want at most %d", m, maxRunning)
	}
}

// The bytes of requests that are worked on have a limit: the server then
// reads no more, and goes on when there is room. Waits do not count.
func TestServerBytes(t *testing.T) {
	const size, room = 16 << 10, 4
	s := newServer()
	s.maxBytes = size * room
	free := make(chan struct{})
	waiting := make(chan struct{})
	Handle(s, ModifySettings, func(ctx context.Context, _ *ModifySettingsRequest) (*Response, error) {
		<-free
		return nil, nil
	})
	Handle(s, WaitForProcess, func(ctx context.Context, _ *WaitForProcessRequest) (*WaitForProcessResponse, error) {
		waiting <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	})
	h := negotiated(t, s)
	for range 2 * size * room / minBytes {
		h.send(WaitForProcess.Type, &WaitForProcessRequest{})
		<-waiting
	}
	big := &ModifySettingsRequest{Settings: json.RawMessage(`"` + strings.Repeat("x", size-200) + `"`)}
	const n = room + 1 // one that was read waits for room
	for range n {
		h.send(ModifySettings.Type, big)
	}
	h.conn.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := h.conn.Write([]byte{0}); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the server reads on when it is full: %d, %v", n, err)
	}
	h.conn.SetWriteDeadline(time.Time{})
	close(free)
	for range n {
		h.next()
	}
	go h.send(ModifySettings.Type, big)
	h.next()
}

func TestServeEnds(t *testing.T) {
	ended := make(chan error, 1)
	started := make(chan struct{}, 1)
	s := newServer()
	Handle(s, Start, func(ctx context.Context, _ *Request) (*Response, error) {
		started <- struct{}{}
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	})
	if err := s.Notify(Exited("c", NotifyNone)); !errors.Is(err, ErrClosed) {
		t.Errorf("notify without host: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	for _, c := range []struct {
		name string
		end  func(net.Conn)
		want error
	}{
		{"host closes", func(h net.Conn) { h.Close() }, nil},
		{"host sends an answer", func(h net.Conn) { h.Write(rawFrame(Start.Type.Response(), 18, 1, []byte("{}"))) }, ErrProtocol},
		{"host sends garbage", func(h net.Conn) { h.Write([]byte("GET / HTTP/1.1\r\n\r\n")) }, ErrProtocol},
		{"context ends", func(net.Conn) { cancel() }, context.Canceled},
	} {
		h, g := net.Pipe()
		done := make(chan error, 1)
		go func() { done <- s.Serve(ctx, g) }()
		hh := &host{t: t, conn: h}
		hh.call(negotiate.Type, &negotiateRequest{MinimumVersion: 4, MaximumVersion: 4})
		if err := s.Serve(ctx, &scripted{r: strings.NewReader("")}); err == nil {
			t.Error("two connections were served at once")
		}
		hh.send(Start.Type, &Request{})
		<-started
		c.end(h)
		if err := <-ended; err != context.Canceled { // handlers end with the connection
			t.Errorf("%s: handler ended with %v", c.name, err)
		}
		if err := <-done; !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
		h.Close()
	}
}

// Whatever a host sends, a server ends in order.
func FuzzServer(f *testing.F) {
	first, err := encode(negotiate.Type, 0, &negotiateRequest{MinimumVersion: 4, MaximumVersion: 4})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(first)
	f.Add(append(first, rawFrame(ExecuteProcess.Type, 57, 1, []byte(`{"Settings":{"ProcessParameters":"{}"},"x":1}`))...))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := newServer()
		Handle(s, ExecuteProcess, func(_ context.Context, r *ExecuteProcessRequest) (*ExecuteProcessResponse, error) {
			var p struct{ CommandArgs []string }
			return nil, r.Settings.ProcessParameters.Decode(&p)
		})
		Handle(s, ModifySettings, func(_ context.Context, r *ModifySettingsRequest) (*Response, error) {
			return nil, json.Unmarshal(r.Settings, new(any))
		})
		s.Serve(t.Context(), &scripted{r: bytes.NewReader(b)})
	})
}
