package bridge

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/byrevm/byre/cow"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/schema1"
)

// shutdownTimeout is how long a container may take to answer that it is told
// to end.
const shutdownTimeout = 30 * time.Second

// A container is the host's handle of a container. It is in
// Client.containers from before Create is sent until it ends.
type container struct {
	c    *Client
	id   string
	done chan struct{} // closed when the end is known
	once sync.Once
	err  error // why the end is not known; set before done is closed
}

// CreateContainer creates a container from config: an
// [hcsschema.LinuxHostedSystem] or [hcsschema.HostedSystem]. A container of
// this id that has not ended fails with [ErrContainerExists].
//
// Wait of the container returns nil when the guest has reported its end,
// orderly or not, an error that wraps [ErrClosed] if the bridge ended before
// that, and [ErrReleased] after Close.
func (c *Client) CreateContainer(ctx context.Context, id string, config any) (cow.Container, error) {
	if id == "" || id == NilContainer {
		return nil, fmt.Errorf("%q cannot be the id of a container", id)
	}
	q, err := Quote(config)
	if err != nil {
		return nil, fmt.Errorf("encoding container %s: %w", id, err)
	}
	ctr := &container{c: c, id: id, done: make(chan struct{})}
	if err := ctr.register(); err != nil {
		return nil, err
	}
	req := &CreateRequest{Request: c.base(ctx, id), Config: q}
	err = c.call(ctx, Create.Type, req, new(Response), func(body []byte) {
		if decode(Create.Type, id, body, new(Response)) == nil {
			c.spawn(func() { c.discard(id) })
		}
	})
	if err != nil {
		ctr.unregister()
		return nil, err
	}
	return ctr, nil
}

// discard ends a container that nobody waits for any more.
func (c *Client) discard(id string) {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	req := c.base(ctx, id)
	err := c.call(ctx, ShutdownForced.Type, &req, new(Response), nil)
	if c.caps.GuestDefinedCapabilities.DeleteContainerStateSupported {
		err = errors.Join(err, c.DeleteContainerState(ctx, id))
	}
	c.log.WarnContext(ctx, "container discarded that was created too late", "cid", id, "err", err)
}

func (ctr *container) register() error {
	c := ctr.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	if c.containers[ctr.id] != nil {
		return &Error{Op: Create.Type, Container: ctr.id, Result: ErrContainerExists, Message: "container " + ctr.id + " already exists"}
	}
	c.containers[ctr.id] = ctr
	return nil
}

func (ctr *container) unregister() {
	ctr.c.mu.Lock()
	defer ctr.c.mu.Unlock()
	if ctr.c.containers[ctr.id] == ctr {
		delete(ctr.c.containers, ctr.id)
	}
}

func (ctr *container) end(err error) {
	ctr.once.Do(func() {
		ctr.err = err
		close(ctr.done)
	})
}

func (ctr *container) ended() bool {
	select {
	case <-ctr.done:
		return ctr.err == nil
	default:
		return false
	}
}

func (ctr *container) ID() string  { return ctr.id }
func (ctr *container) OS() string  { return ctr.c.os }
func (ctr *container) IsOCI() bool { return ctr.c.os != "windows" }

func (ctr *container) Start(ctx context.Context) error {
	req := ctr.c.base(ctx, ctr.id)
	return ctr.c.call(ctx, Start.Type, &req, new(Response), nil)
}

func (ctr *container) Shutdown(ctx context.Context) error {
	return ctr.shutdown(ctx, ShutdownGraceful.Type)
}

func (ctr *container) Terminate(ctx context.Context) error {
	return ctr.shutdown(ctx, ShutdownForced.Type)
}

// shutdown does nothing for a container that has ended: another one may have
// its id by now.
func (ctr *container) shutdown(ctx context.Context, t Type) error {
	if ctr.ended() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, shutdownTimeout)
	defer cancel()
	req := ctr.c.base(ctx, ctr.id)
	err := ctr.c.call(ctx, t, &req, new(Response), nil)
	if errors.Is(err, ErrNoContainer) || errors.Is(err, ErrContainerStopped) {
		return nil
	}
	return err
}

func (ctr *container) Wait() error {
	<-ctr.done
	return ctr.err
}

func (ctr *container) Close() error {
	ctr.unregister()
	ctr.end(fmt.Errorf("container %s: %w", ctr.id, ErrReleased))
	return nil
}

func (ctr *container) CreateProcess(ctx context.Context, params any) (cow.Process, error) {
	return ctr.c.exec(ctx, ctr.id, params)
}

func (ctr *container) Properties(ctx context.Context, types ...schema1.PropertyType) (*schema1.ContainerProperties, error) {
	p := new(schema1.ContainerProperties)
	if err := ctr.properties(ctx, schema1.PropertyQuery{PropertyTypes: types}, p); err != nil {
		return nil, err
	}
	return p, nil
}

func (ctr *container) PropertiesV2(ctx context.Context, types ...hcsschema.PropertyType) (*hcsschema.Properties, error) {
	p := new(hcsschema.Properties)
	if err := ctr.properties(ctx, hcsschema.PropertyQuery{PropertyTypes: types}, p); err != nil {
		return nil, err
	}
	return p, nil
}

func (ctr *container) properties(ctx context.Context, query, into any) error {
	q, err := Quote(query)
	if err != nil {
		return err
	}
	req := &GetPropertiesRequest{Request: ctr.c.base(ctx, ctr.id), Query: q}
	resp := new(GetPropertiesResponse)
	if err := ctr.c.call(ctx, GetProperties.Type, req, resp, nil); err != nil {
		return err
	}
	if err := resp.Properties.Decode(into); err != nil {
		return fmt.Errorf("%w: properties of container %s: %w", ErrProtocol, ctr.id, err)
	}
	return nil
}
