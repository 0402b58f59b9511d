package bridge

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
)

// A ServerConfig says how a [Server] works.
type ServerConfig struct {
	// Capabilities is what the server says when the host connects.
	Capabilities Capabilities

	// MaxAnswer is the largest answer that the host takes; a larger one is
	// replaced by [ErrTooLarge]. 0 means [MaxMessage].
	MaxAnswer int

	// Observe is called with every message, one at a time. It must not wait.
	Observe func(Message)

	// Logger is slog.Default() if nil.
	Logger *slog.Logger
}

// Limits of what a server works on at a time. At the limits of bytes and of
// running requests, the host waits; at that of waits, it is refused, because
// a wait may be long.
const (
	maxBytes   = 16 << 20 // of requests that were read
	minBytes   = 4 << 10  // that a request counts at least
	maxRunning = 64       // requests that do work
	maxWaits   = 32 << 10 // WaitForProcess
)

// ErrNoResponse is returned by a handler whose request is to stay unanswered.
var ErrNoResponse = errors.New("no response")

// A Server is the guest's end of a bridge. Register handlers with [Handle],
// then call Serve.
type Server struct {
	config   ServerConfig
	log      *slog.Logger
	handlers map[Type]handler
	maxBytes int64
	waits    atomic.Int32

	observing sync.Mutex // held while Observe is called

	mu   sync.Mutex // guards conn, and is held while a message is written; taken before observing
	conn net.Conn   // nil while nobody is served
}

type handler func(ctx context.Context, body []byte) (responder, error)

// NewServer returns a server without handlers.
func NewServer(c ServerConfig) *Server {
	if c.MaxAnswer <= 0 || c.MaxAnswer > MaxMessage {
		c.MaxAnswer = MaxMessage
	}
	return &Server{config: c, log: cmp.Or(c.Logger, slog.Default()), handlers: make(map[Type]handler), maxBytes: maxBytes}
}

// Handle lets f answer the requests of a procedure. It must not be called
// once Serve has been.
//
// Each request has its own goroutine; there is no order among them. f returns
// when ctx ends, which it does when the connection ends. It owns the request.
// An error is sent to the host as its [Result], if it wraps one, and its
// text; a nil response is an empty one.
func Handle[Req, Resp any](s *Server, rpc RPC[Req, Resp], f func(ctx context.Context, req *Req) (*Resp, error)) {
	s.handlers[rpc.Type] = func(ctx context.Context, body []byte) (responder, error) {
		req := new(Req)
		if err := json.Unmarshal(body, req); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalidJSON, err)
		}
		decoded(ctx)
		resp, err := f(ctx, req)
		if resp == nil {
			resp = new(Resp)
		}
		return any(resp).(responder), err
	}
}

// Serve answers the requests from conn, which it owns, until conn or ctx ends
// or the host breaks the protocol. It returns when all handlers have, and nil
// if the host closed the connection. Only one connection is served at a time.
func (s *Server) Serve(ctx context.Context, conn net.Conn) error {
	defer conn.Close()
	s.mu.Lock()
	if s.conn != nil {
		s.mu.Unlock()
		return errors.New("the bridge is being served already")
	}
	s.conn = conn
	s.mu.Unlock()

	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer func() {
		cancel()
		conn.Close()
		wg.Wait()
		s.mu.Lock()
		s.conn = nil
		s.mu.Unlock()
	}()

	bytes, running := semaphore.NewWeighted(s.maxBytes), semaphore.NewWeighted(maxRunning)
	negotiated := false
	r := bufio.NewReader(conn)
	for {
		f, err := readFrame(r)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if endOfConn(err) {
				return nil
			}
			return err
		}
		if !f.Type.isRequest() {
			return fmt.Errorf("%w: message of type %v", ErrProtocol, f.Type)
		}
		s.observe(Message{Type: f.Type, ID: f.ID, Body: f.Body})
		if f.Type == negotiate.Type || !negotiated {
			if s.negotiate(ctx, f) {
				negotiated = true
			}
			continue
		}
		q := &job{server: s, frame: f, bytes: bytes, size: int64(max(len(f.Body), minBytes))}
		if err := bytes.Acquire(ctx, q.size); err != nil {
			return err
		}
		wg.Go(func() {
			defer q.free()
			if !urgent(f.Type) {
				if running.Acquire(ctx, 1) != nil {
					return
				}
				defer running.Release(1)
			}
			q.run(ctx)
		})
	}
}

// urgent requests do not wait for others: they end something, or take no
// effort.
func urgent(t Type) bool {
	switch t {
	case WaitForProcess.Type, SignalProcess.Type, ShutdownForced.Type, ShutdownGraceful.Type, DumpStacks.Type:
		return true
	}
	return false
}

// negotiate answers what comes before version 4 has been agreed on. It
// reports whether it has been.
func (s *Server) negotiate(ctx context.Context, f frame) bool {
	ok := false
	resp, err := func() (responder, error) {
		if f.Type != negotiate.Type {
			return nil, fmt.Errorf("%w: %v before NegotiateProtocol", ErrNotImplemented, f.Type)
		}
		req := new(negotiateRequest)
		if err := json.Unmarshal(f.Body, req); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalidJSON, err)
		}
		if req.MinimumVersion > Version || req.MaximumVersion < Version {
			return nil, fmt.Errorf("%w: %d to %d", ErrUnsupportedVersion, req.MinimumVersion, req.MaximumVersion)
		}
		ok = true
		return &negotiateResponse{Version: Version, Capabilities: s.config.Capabilities}, nil
	}()
	if err := s.respond(f.Type, f.ID, activity(f.Body), resp, err); err != nil {
		s.log.WarnContext(ctx, "answer not sent", "type", f.Type, "err", err)
	}
	return ok
}

// Notify tells the host what became of a container. It fails with [ErrClosed]
// while no host is connected.
func (s *Server) Notify(n *ContainerNotification) error {
	b, err := encode(typeNotification, 0, n)
	if err != nil {
		return err
	}
	return s.send(typeNotification, 0, b)
}

func (s *Server) send(t Type, id uint64, b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return ErrClosed
	}
	s.observe(Message{Type: t, ID: id, Body: b[headerSize:], Sent: true})
	if _, err := s.conn.Write(b); err != nil {
		s.conn.Close() // a part may have been written
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return nil
}

func (s *Server) observe(m Message) {
	if s.config.Observe != nil {
		s.observing.Lock()
		defer s.observing.Unlock()
		s.config.Observe(m)
	}
}

// respond sends the answer to a request.
func (s *Server) respond(request Type, id uint64, activity string, resp responder, err error) error {
	if resp == nil || err != nil {
		resp = new(Response)
	}
	base := resp.response()
	base.ActivityID = activity
	if err != nil {
		fillError(base, err)
	}
	t := request.Response()
	b, err := encode(t, id, resp)
	if err == nil && len(b) > s.config.MaxAnswer {
		err = fmt.Errorf("%w: answer to %v of %d bytes", ErrTooLarge, request, len(b))
	}
	if err != nil {
		base = &Response{ActivityID: activity}
		fillError(base, err)
		if b, err = encode(t, id, base); err != nil {
			return err
		}
	}
	return s.send(t, id, b)
}

// activity returns the activity of a request, which the answer repeats.
func activity(body []byte) string {
	var r struct {
		ActivityID string `json:"ActivityId"`
	}
	json.Unmarshal(body, &r) // else it stays empty and is left out
	return clip(r.ActivityID, maxActivity)
}

const (
	maxActivity = 64
	maxText     = 4 << 10 // of an error's texts
)

func fillError(r *Response, err error) {
	r.Result = resultOf(err)
	r.ErrorMessage = clip(err.Error(), maxText)
	rec := ErrorRecord{Result: r.Result, Message: r.ErrorMessage, ModuleName: "gcs"}
	var p *panicked
	if errors.As(err, &p) {
		rec.StackTrace = clip(string(p.stack), maxText)
	}
	r.ErrorRecords = []ErrorRecord{rec}
}

// panicked is the error of a handler that panicked: one bad request must not
// end every container of the machine.
type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprintf("%v: %v", ErrUnexpected, p.value) }
func (p *panicked) Unwrap() error { return ErrUnexpected }

func newPanicked(v any) *panicked { return &panicked{v, debug.Stack()} }
