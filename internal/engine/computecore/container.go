package computecore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/byrevm/byre/cow"
	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/schema1"
)

// A container is one that the service itself made in the guest of a system.
type container struct {
	id      string
	os      string
	calls   caller
	watch   *watch
	host    *watch // of the system that it runs in
	closing func() error
}

// CreateHosted implements [hcs.Hosted].
func (s *System) CreateHosted(ctx context.Context, id string, doc hcs.Document) (cow.Container, error) {
	err := s.is(running)
	if err == nil && !s.internal {
		err = errExternal
	}
	if err != nil {
		return nil, &hcs.Error{Op: "create", System: id, Err: err}
	}
	h, err := s.e.create(ctx, id, doc)
	if err != nil {
		return nil, s.stop(err)
	}
	c := &container{id: id, os: "windows", watch: newWatch(), host: s.watch}
	c.calls = caller{e: s.e, id: id, h: hold(h, s.e.service.CloseSystem), call: s.e.service.CallSystem}
	c.closing = sync.OnceValue(c.close)
	if err := c.attach(ctx); err != nil {
		_, termErr := c.calls.do(context.WithoutCancel(ctx), CallTerminate, "", dropped)
		return nil, errors.Join(s.stop(err), termErr, c.Close())
	}
	go c.outlive()
	return c, nil
}

// attach registers for events and learns which system the container's is.
func (c *container) attach(ctx context.Context) error {
	if err := c.watch.register(ctx, &c.calls, c.calls.e.service.OnSystem); err != nil {
		return err
	}
	p, err := c.PropertiesV2(ctx)
	if err != nil {
		return err
	}
	if strings.EqualFold(p.RuntimeOsType, "linux") {
		c.os = "linux"
	}
	return nil
}

// outlive ends the container if its system ends without a word about it.
func (c *container) outlive() {
	select {
	case <-c.watch.done:
	case <-c.host.done:
		err := fmt.Errorf("%w: %w", hcs.ErrStopped, c.host.err())
		c.watch.lose(&hcs.Exit{Kind: hcs.ExitOther, Detail: err.Error()}, err)
	}
}

func (c *container) ID() string { return c.id }
func (c *container) OS() string { return c.os }

// IsOCI is false: the service takes its own parameters.
func (c *container) IsOCI() bool { return false }

// do makes a call that does not matter to a container that has ended.
func (c *container) do(ctx context.Context, op string, call Call) error {
	if c.watch.err() != nil {
		return nil
	}
	r, err := c.calls.do(ctx, call, "", dropped)
	if err != nil {
		return &hcs.Error{Op: op, System: c.id, Err: err}
	}
	if r.is(codeAlreadyStopped, codeSystemNotFound) {
		return nil
	}
	return r.failure(op, c.id, "")
}

func (c *container) Start(ctx context.Context) error {
	if c.watch.err() != nil {
		return &hcs.Error{Op: "start", System: c.id, Err: hcs.ErrStopped}
	}
	r, err := c.calls.do(ctx, CallStart, "", dropped)
	if err != nil {
		return &hcs.Error{Op: "start", System: c.id, Err: err}
	}
	return r.failure("start", c.id, "")
}

func (c *container) Shutdown(ctx context.Context) error {
	return c.do(ctx, "shutdown", CallShutdown)
}

// Terminate asks; Wait says when the container has ended.
func (c *container) Terminate(ctx context.Context) error {
	c.watch.mu.Lock()
	c.watch.asked = true
	c.watch.mu.Unlock()
	return c.do(ctx, "terminate", CallTerminate)
}

func (c *container) Properties(ctx context.Context, types ...schema1.PropertyType) (*schema1.ContainerProperties, error) {
	p := new(schema1.ContainerProperties)
	if err := c.calls.properties(ctx, schema1.PropertyQuery{PropertyTypes: types}, p); err != nil {
		return nil, err
	}
	return p, nil
}

func (c *container) PropertiesV2(ctx context.Context, types ...hcsschema.PropertyType) (*hcsschema.Properties, error) {
	p := new(hcsschema.Properties)
	if err := c.calls.properties(ctx, hcsschema.PropertyQuery{PropertyTypes: types}, p); err != nil {
		return nil, err
	}
	return p, nil
}

func (c *container) CreateProcess(ctx context.Context, params any) (cow.Process, error) {
	return newProcess(ctx, &c.calls, c.watch, params)
}

// Wait returns nil when the service has reported the end of the container,
// and an error if its system ended before that, or Close was called.
func (c *container) Wait() error {
	if err := c.watch.wait(); err != nil {
		return fmt.Errorf("container %s: %w", c.id, err)
	}
	return nil
}

// Close implements [cow.Container]. The service terminates a container whose
// last handle is closed, if its document says so.
func (c *container) Close() error { return c.closing() }

func (c *container) close() error {
	ok := c.calls.h.shut(closeTimeout)
	c.watch.lose(&hcs.Exit{Kind: hcs.ExitOther, Detail: errReleased.Error()}, errReleased)
	if !ok {
		return &hcs.Error{Op: "close", System: c.id, Err: fmt.Errorf("calls are still under way: %w", errTimeout)}
	}
	return nil
}
