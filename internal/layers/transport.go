package layers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"time"
)

// A boundedTransport speaks plain HTTP only where that was allowed: on loopback
// addresses and to the hosts of the configuration, whatever redirects say. And
// it gives up a request that nothing comes back from.
type boundedTransport struct {
	next  http.RoundTripper
	plain []string
	stall time.Duration
}

func (t *boundedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !isLoopback(r.URL.Hostname()) && !isPlain(r.URL.Host, t.plain) {
		return nil, fmt.Errorf("%w: %s without TLS", ErrInvalid, r.URL.Host)
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	b := &stallBody{ctx: ctx, cancel: cancel, after: t.stall}
	b.timer = time.AfterFunc(t.stall, func() {
		cancel(fmt.Errorf("%s sent nothing for %s", r.URL.Host, t.stall))
	})
	resp, err := t.next.RoundTrip(r.WithContext(ctx))
	if err != nil {
		return nil, b.end(err)
	}
	b.ReadCloser = resp.Body
	resp.Body = b
	return resp, nil
}

// A stallBody is the body of an answer, given up when nothing comes.
type stallBody struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	after  time.Duration
}

func (b *stallBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.timer.Reset(b.after)
	if err != nil && !errors.Is(err, io.EOF) && b.ctx.Err() != nil {
		err = context.Cause(b.ctx)
	}
	return n, err
}

func (b *stallBody) Close() error {
	err := b.ReadCloser.Close()
	b.end(nil)
	return err
}

// end stops the clock; if that is what ended the request, it is the error.
func (b *stallBody) end(err error) error {
	b.timer.Stop()
	if err != nil && b.ctx.Err() != nil {
		err = context.Cause(b.ctx)
	}
	b.cancel(nil)
	return err
}

func isPlain(host string, plain []string) bool {
	h, _, err := net.SplitHostPort(host)
	return slices.Contains(plain, host) || err == nil && slices.Contains(plain, h)
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
