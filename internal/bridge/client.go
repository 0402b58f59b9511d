package bridge

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/byrevm/byre/cow"
	"github.com/byrevm/byre/schema1"
)

// A Config says how a [Client] works.
type Config struct {
	// Listen accepts what the guest opens to a vsock port of the host, for
	// the streams of processes. Without it no process has streams.
	Listen func(port uint32) (net.Listener, error)

	// Timeout is how long a request may take; 0 means 5 minutes. It does not
	// apply to the exit of a process.
	Timeout time.Duration

	// Trace returns the trace span to send with a request, or nil.
	Trace func(context.Context) *Trace

	// Observe is called with every message, one at a time, in the order of
	// each direction. It must not wait.
	Observe func(Message)

	// Logger is slog.Default() if nil.
	Logger *slog.Logger
}

const defaultTimeout = 5 * time.Minute

// A Client is the host's end of a bridge. It is safe for concurrent use.
//
// A call ends when it is answered, when its context or its time ends, or when
// the bridge ends, whichever is first; only the last of them harms other
// calls. If a container or process was made after the caller had given up,
// the client ends it.
type Client struct {
	config Config
	log    *slog.Logger
	conn   net.Conn
	caps   Capabilities
	os     string
	ports  ports

	observing sync.Mutex // held while Observe is called

	send chan outgoing // to the writing goroutine
	done chan struct{} // closed when the bridge is gone
	wg   sync.WaitGroup

	strays strays

	mu         sync.Mutex // guards what follows
	closing    bool       // Close was called
	err        error      // why the bridge is gone; set before done is closed
	nextID     uint64
	calls      map[uint64]*call
	containers map[string]*container
	streams    map[*stream]bool // those that still wait for the guest
}

// An outgoing message is written unless it was withdrawn before its turn.
type outgoing struct {
	bytes []byte
	msg   Message
}

// Connect negotiates with the guest at the other end of conn, which the
// client owns from now on, also when Connect fails. If the guest asks for it,
// Connect creates and starts the virtual machine's own container.
func Connect(ctx context.Context, conn net.Conn, c Config) (*Client, error) {
	c.Timeout = cmp.Or(c.Timeout, defaultTimeout)
	cl := &Client{
		config:     c,
		log:        cmp.Or(c.Logger, slog.Default()),
		conn:       conn,
		send:       make(chan outgoing),
		done:       make(chan struct{}),
		calls:      make(map[uint64]*call),
		containers: make(map[string]*container),
		streams:    make(map[*stream]bool),
	}
	cl.strays.log = cl.log
	cl.wg.Go(cl.write)
	cl.wg.Go(cl.receive)
	if err := cl.negotiate(ctx); err != nil {
		cl.Close()
		return nil, err
	}
	return cl, nil
}

func (c *Client) negotiate(ctx context.Context) error {
	req := &negotiateRequest{Request: Request{ActivityID: NilContainer}, MinimumVersion: Version, MaximumVersion: Version}
	resp := new(negotiateResponse)
	if err := c.call(ctx, negotiate.Type, req, resp, nil); err != nil {
		return fmt.Errorf("negotiating with the guest: %w", err)
	}
	if resp.Version != Version {
		return fmt.Errorf("%w: unexpected version %d returned", ErrProtocol, resp.Version)
	}
	c.caps = resp.Capabilities
	c.os = cmp.Or(strings.ToLower(c.caps.RuntimeOSType), "windows")
	if !c.caps.SendHostCreateMessage {
		return nil
	}
	q, err := Quote(schema1System{SystemType: schema1.SystemTypeContainer})
	if err != nil {
		return err
	}
	create := &CreateRequest{Request: c.base(ctx, NilContainer), Config: q}
	if err := c.call(ctx, Create.Type, create, new(Response), nil); err != nil {
		return fmt.Errorf("creating the guest's own container: %w", err)
	}
	if !c.caps.SendHostStartMessage {
		return nil
	}
	start := c.base(ctx, NilContainer)
	if err := c.call(ctx, Start.Type, &start, new(Response), nil); err != nil {
		return fmt.Errorf("starting the guest's own container: %w", err)
	}
	return nil
}

type schema1System struct{ SystemType string }

// Protocol returns the negotiated version.
func (c *Client) Protocol() uint32 { return Version }

// Capabilities returns what the guest can do.
func (c *Client) Capabilities() schema1.GuestDefinedCapabilities {
	return c.caps.GuestDefinedCapabilities
}

// GuestCapabilities returns all that the guest said of itself.
func (c *Client) GuestCapabilities() Capabilities { return c.caps }

// OS returns "linux" or "windows".
func (c *Client) OS() string { return c.os }

// Modify changes the guest's half of a resource: request is an
// [hcsschema.GuestRequest], or what encodes as one.
func (c *Client) Modify(ctx context.Context, request any) error {
	b, err := encodeRaw(request)
	if err != nil {
		return err
	}
	req := &ModifySettingsRequest{Request: c.base(ctx, NilContainer), Settings: b}
	return c.call(ctx, ModifySettings.Type, req, new(Response), nil)
}

// CreateProcess starts a process in the virtual machine itself: params is an
// [hcsschema.ProcessParameters]. Its streams end with the process's, and its
// exit may be seen before the last of its output has been read: read the
// streams to their end.
func (c *Client) CreateProcess(ctx context.Context, params any) (cow.Process, error) {
	return c.exec(ctx, NilContainer, params)
}

// DumpStacks returns the stacks of the agent's threads.
func (c *Client) DumpStacks(ctx context.Context) (string, error) {
	req, resp := c.base(ctx, NilContainer), new(DumpStacksResponse)
	err := c.call(ctx, DumpStacks.Type, &req, resp, nil)
	return resp.GuestStacks, err
}

// DeleteContainerState makes the guest forget a container that has ended.
func (c *Client) DeleteContainerState(ctx context.Context, id string) error {
	req := c.base(ctx, id)
	return c.call(ctx, DeleteContainerState.Type, &req, new(Response), nil)
}

// Done is closed when the bridge is gone.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err returns nil while the bridge works, and then an error that wraps
// [ErrClosed] and, unless one of the two ends closed it, the cause.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Strays returns how many messages of the guest belonged to no call or
// container and were dropped.
func (c *Client) Strays() uint64 { return c.strays.count.Load() }

// Close ends the bridge and everybody who waits on it. It returns the cause
// if the bridge had broken before. A second call returns the same.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closing = true
	c.mu.Unlock()
	c.fail(nil)
	c.wg.Wait()
	if err := c.Err(); err != ErrClosed { //nolint:errorlint // what wraps it says more
		return err
	}
	return nil
}

// fail ends the bridge for a cause; nil is an orderly end.
func (c *Client) fail(cause error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = ErrClosed
	if cause != nil && !c.closing && !endOfConn(cause) {
		c.err = fmt.Errorf("%w: %w", ErrClosed, cause)
	}
	err, calls, containers, streams := c.err, c.calls, c.containers, c.streams
	c.calls, c.containers, c.streams = nil, nil, nil
	close(c.done)
	c.mu.Unlock()

	c.conn.Close()
	for _, call := range calls {
		call.finish(nil, err)
	}
	for _, ctr := range containers {
		ctr.end(fmt.Errorf("container %s: %w", ctr.id, err))
	}
	for s := range streams {
		s.fail(err)
	}
}

// spawn runs f in a goroutine that Close waits for, unless the bridge is
// gone.
func (c *Client) spawn(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.wg.Go(f)
	}
}

func endOfConn(err error) bool {
	return errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe)
}

func (c *Client) write() {
	for {
		select {
		case m := <-c.send:
			c.observe(m.msg)
			if _, err := c.conn.Write(m.bytes); err != nil {
				c.fail(fmt.Errorf("sending %v: %w", m.msg.Type, err))
				return
			}
		case <-c.done:
			return
		}
	}
}

func (c *Client) observe(m Message) {
	if c.config.Observe != nil {
		c.observing.Lock()
		defer c.observing.Unlock()
		c.config.Observe(m)
	}
}

func (c *Client) receive() {
	r := bufio.NewReader(c.conn)
	for {
		f, err := readFrame(r)
		if err != nil {
			c.fail(err)
			return
		}
		c.observe(Message{Type: f.Type, ID: f.ID, Body: f.Body})
		switch {
		case f.Type.isResponse():
			c.answered(f)
		case f.Type.isNotify():
			c.notified(f)
		default:
			c.fail(fmt.Errorf("%w: message of type %v", ErrProtocol, f.Type))
			return
		}
	}
}
