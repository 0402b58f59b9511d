package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// A call is a request that waits for its answer. It is in Client.calls until
// finish has been called, which happens once.
type call struct {
	id   uint64
	typ  Type
	done func(body []byte, err error) // called once, by the goroutine that finishes
	once sync.Once
}

func (c *call) finish(body []byte, err error) { c.once.Do(func() { c.done(body, err) }) }

// base returns what a request for container id starts with.
func (c *Client) base(ctx context.Context, id string) Request {
	r := Request{ContainerID: id, ActivityID: NilContainer}
	if c.config.Trace != nil {
		r.Trace = c.config.Trace(ctx)
	}
	return r
}

// begin sends a request; done is called when it is answered or the bridge
// ends, and must not wait. If begin fails, the guest has not seen the request,
// and done has been called only if the bridge has ended.
func (c *Client) begin(ctx context.Context, t Type, req any, done func([]byte, error)) (*call, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return nil, c.err
	}
	cl := &call{id: c.nextID, typ: t, done: done}
	c.nextID++
	c.calls[cl.id] = cl
	c.mu.Unlock()

	b, err := encode(t, cl.id, req)
	if err != nil {
		c.forget(cl)
		return nil, err
	}
	select {
	case c.send <- outgoing{b, Message{Type: t, ID: cl.id, Body: b[headerSize:], Sent: true}}:
		return cl, nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-c.done:
		err = c.Err()
	}
	c.forget(cl)
	return nil, err
}

// forget takes a call out, so that nothing finishes it any more, unless
// somebody is about to.
func (c *Client) forget(cl *call) {
	c.mu.Lock()
	delete(c.calls, cl.id)
	c.mu.Unlock()
	cl.once.Do(func() {})
}

// call sends a request and waits for the answer, which it stores in resp. If
// the caller gives up first, the answer that may still come is given to late,
// which must not wait.
func (c *Client) call(ctx context.Context, t Type, req requester, resp responder, late func(body []byte)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.config.Timeout, fmt.Errorf("%v: %w", t, ErrNoAnswer))
	defer cancel()
	type answer struct {
		body []byte
		err  error
	}
	answers := make(chan answer, 1)
	var mu sync.Mutex // guards given
	var given bool    // the caller has given up
	_, err := c.begin(ctx, t, req, func(body []byte, err error) {
		mu.Lock()
		defer mu.Unlock()
		if !given {
			answers <- answer{body, err}
		} else if err == nil && late != nil {
			late(body)
		}
	})
	if err == nil {
		select {
		case a := <-answers:
			if a.err != nil {
				return a.err
			}
			return decode(t, req.request().ContainerID, a.body, resp)
		case <-ctx.Done():
			err = ctx.Err()
		}
		mu.Lock()
		given = true
		select {
		case a := <-answers: // it came in this moment
			mu.Unlock()
			if a.err != nil {
				return a.err
			}
			return decode(t, req.request().ContainerID, a.body, resp)
		default:
			mu.Unlock()
		}
	}
	if cause := context.Cause(ctx); errors.Is(cause, ErrNoAnswer) && errors.Is(err, ctx.Err()) {
		return cause
	}
	return err
}

// decode stores an answer in resp and turns a failure into an [Error].
func decode(t Type, container string, body []byte, resp responder) error {
	if err := json.Unmarshal(body, resp); err != nil {
		return fmt.Errorf("%w: answer to %v: %w", ErrProtocol, t, err)
	}
	r := resp.response()
	if r.Result == OK {
		return nil
	}
	if container == NilContainer {
		container = ""
	}
	return &Error{Op: t, Container: container, Result: r.Result, Message: clip(r.ErrorMessage, maxText), Records: clipRecords(r.ErrorRecords)}
}

// maxRecords is how many error records of an answer are kept.
const maxRecords = 8

// clipRecords bounds what an error of the guest's holds.
func clipRecords(l []ErrorRecord) []ErrorRecord {
	l = slices.Clone(l[:min(len(l), maxRecords)])
	for i := range l {
		r := &l[i]
		for _, s := range []*string{&r.Message, &r.StackTrace, &r.ModuleName, &r.FileName, &r.FunctionName} {
			*s = strings.Clone(clip(*s, maxText))
		}
	}
	return l
}

func (c *Client) answered(f frame) {
	c.mu.Lock()
	cl := c.calls[f.ID]
	delete(c.calls, f.ID)
	c.mu.Unlock()
	switch {
	case cl == nil:
		c.strays.add("answer to no request", slog.Uint64("id", f.ID), slog.String("type", f.Type.String()))
	case f.Type != cl.typ.Response():
		cl.finish(nil, fmt.Errorf("%w: answer to %v has type %v", ErrProtocol, cl.typ, f.Type))
	default:
		cl.finish(f.Body, nil)
	}
}

func (c *Client) notified(f frame) {
	if f.Type != typeNotification {
		c.strays.add("unknown notification", slog.String("type", f.Type.String()))
		return
	}
	n := new(ContainerNotification)
	if err := json.Unmarshal(f.Body, n); err != nil {
		c.strays.add("notification that cannot be read", slog.Any("err", err))
		return
	}
	if !n.Type.ended() {
		return
	}
	c.mu.Lock()
	ctr := c.containers[n.ContainerID]
	delete(c.containers, n.ContainerID)
	c.mu.Unlock()
	if ctr == nil {
		c.strays.add("notification for no container", slog.String("cid", clip(n.ContainerID, 128)))
		return
	}
	ctr.end(nil)
}

// strays counts messages that belong to nothing. It logs the 1st, 2nd, 4th,
// 8th, ..., so that a guest cannot fill the log.
type strays struct {
	log   *slog.Logger
	count atomic.Uint64
}

func (s *strays) add(what string, attrs ...slog.Attr) {
	if n := s.count.Add(1); bits.OnesCount64(n) == 1 {
		attrs = append(attrs, slog.String("what", what), slog.Uint64("count", n))
		s.log.LogAttrs(context.Background(), slog.LevelWarn, "message of the guest dropped", attrs...)
	}
}

// clip shortens untrusted text.
func clip(s string, n int) string {
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "") + "…"
	}
	return s
}

// encodeRaw encodes v, which may be JSON already.
func encodeRaw(v any) (json.RawMessage, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encoding request: %w", err)
	}
	return b, nil
}
