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
	"sync"
	"syscall"
)

// MaxLine is the length of the longest line that a client takes, in bytes.
const MaxLine = 4 << 20

// ErrClosed means that the connection to QEMU is gone.
var ErrClosed = errors.New("connection to QEMU closed")

// An Error is a failure that QEMU reported.
type Error struct {
	Command string `json:"-"`
	Class   string `json:"class"`
	Desc    string `json:"desc"`
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s", e.Command, e.Desc) }

// An Event is something that QEMU reports by itself.
type Event struct {
	Name string          `json:"event"`
	Data json.RawMessage `json:"data"`
}

// A Version is the version of a QEMU.
type Version struct {
	Major int `json:"major"`
	Minor int `json:"minor"`
	Micro int `json:"micro"`
}

func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Micro) }

// A Client is one connection. It is safe for concurrent use.
type Client struct {
	conn    *net.UnixConn
	version Version
	events  func(Event)
	send    chan request
	done    chan struct{} // closed once err is set and both goroutines are ending
	wg      sync.WaitGroup

	mu    sync.Mutex
	next  int
	calls map[int]chan reply
	err   error // why the connection ended
}

type request struct {
	line []byte
	file *os.File // a duplicate that belongs to the request, or nil
}

type reply struct {
	result json.RawMessage
	err    error
}

// New reads the greeting on conn and negotiates capabilities. It calls events
// for every event, one call at a time; events must not call the client. The
// client owns conn, also if New fails.
func New(ctx context.Context, conn *net.UnixConn, events func(Event)) (*Client, error) {
	c := &Client{
		conn: conn, events: events,
		send: make(chan request), done: make(chan struct{}), calls: make(map[int]chan reply),
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	r := bufio.NewReaderSize(conn, 16<<10)
	err := c.greet(r)
	if !stop() {
		conn.Close()
		return nil, context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("reading the greeting of QEMU: %w", err)
	}
	c.wg.Go(func() { c.receive(r) })
	c.wg.Go(c.transmit)
	if err := c.Execute(ctx, "qmp_capabilities", nil, nil); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Client) greet(r *bufio.Reader) error {
	line, err := readLine(r)
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		return fmt.Errorf("%w: %w", ErrClosed, io.ErrUnexpectedEOF)
	}
	if err != nil {
		return err
	}
	var greeting struct {
		QMP *struct {
			Version struct {
				QEMU Version `json:"qemu"`
			} `json:"version"`
		}
	}
	if err := json.Unmarshal(line, &greeting); err != nil {
		return err
	}
	if greeting.QMP == nil {
		return errors.New("not a QMP greeting")
	}
	c.version = greeting.QMP.Version.QEMU
	return nil
}

// Version returns the version that QEMU greeted with.
func (c *Client) Version() Version { return c.version }

// Execute runs a command and stores what it returns in result, unless that is
// nil. A failure that QEMU reports is an [*Error]; a connection that is or
// goes away is [ErrClosed]. When ctx ends first the command may still run.
func (c *Client) Execute(ctx context.Context, command string, args, result any) error {
	return c.ExecuteFile(ctx, command, args, result, nil)
}

// ExecuteFile is Execute with a descriptor that travels with the command. The
// file stays the caller's.
func (c *Client) ExecuteFile(ctx context.Context, command string, args, result any, file *os.File) error {
	ch := make(chan reply, 1)
	id, err := c.register(ch)
	if err != nil {
		return err
	}
	defer c.forget(id)
	req, err := encode(id, command, args, file)
	if err != nil {
		return err
	}
	select {
	case c.send <- req:
	case <-c.done:
		req.close()
		return c.closed()
	case <-ctx.Done():
		req.close()
		return context.Cause(ctx)
	}
	select {
	case r := <-ch:
		return r.store(command, result)
	case <-c.done:
		select { // the answer may have come before the end
		case r := <-ch:
			return r.store(command, result)
		default:
			return c.closed()
		}
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (r reply) store(command string, result any) error {
	if e := (*Error)(nil); errors.As(r.err, &e) {
		e.Command = command
	}
	if r.err != nil || result == nil {
		return r.err
	}
	if err := json.Unmarshal(r.result, result); err != nil {
		return fmt.Errorf("decoding the result of %s: %w", command, err)
	}
	return nil
}

func encode(id int, command string, args any, file *os.File) (request, error) {
	line, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        int    `json:"id"`
	}{command, args, id})
	if err != nil {
		return request{}, err
	}
	r := request{line: append(line, '\n')}
	if file != nil {
		// The request outlives a caller whose context ends, so it has its own
		// descriptor.
		if r.file, err = dup(file); err != nil {
			return request{}, fmt.Errorf("duplicating the descriptor for %s: %w", command, err)
		}
	}
	return r, nil
}

func (r request) close() {
	if r.file != nil {
		r.file.Close()
	}
}

func (c *Client) register(ch chan reply) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	c.next++
	c.calls[c.next] = ch
	return c.next, nil
}

func (c *Client) forget(id int) {
	c.mu.Lock()
	delete(c.calls, id)
	c.mu.Unlock()
}

func (c *Client) closed() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *Client) transmit() {
	for {
		select {
		case r := <-c.send:
			err := c.write(r)
			r.close()
			if err != nil {
				c.fail(err)
				return
			}
		case <-c.done:
			return
		}
	}
}

func (c *Client) write(r request) error {
	line := r.line
	if r.file != nil {
		n, _, err := c.conn.WriteMsgUnix(line, syscall.UnixRights(int(r.file.Fd())), nil)
		if err != nil {
			return err
		}
		line = line[n:]
	}
	_, err := c.conn.Write(line)
	return err
}

func (c *Client) receive(r *bufio.Reader) {
	for {
		line, err := readLine(r)
		if err == nil {
			err = c.handle(line)
		}
		if err != nil {
			c.fail(err)
			return
		}
	}
}

func (c *Client) handle(line []byte) error {
	var m struct {
		Event
		ID     *int            `json:"id"`
		Return json.RawMessage `json:"return"`
		Error  *Error          `json:"error"`
	}
	if err := json.Unmarshal(line, &m); err != nil {
		return err
	}
	if m.Name != "" {
		if c.events != nil {
			c.events(m.Event)
		}
		return nil
	}
	if m.ID == nil {
		return errors.New("message is neither an event nor an answer")
	}
	c.mu.Lock()
	ch := c.calls[*m.ID]
	delete(c.calls, *m.ID)
	c.mu.Unlock()
	if ch == nil {
		return nil // its caller has gone
	}
	r := reply{result: m.Return}
	if m.Error != nil {
		r.err = m.Error
	}
	ch <- r
	return nil
}

// readLine returns the next line, which is valid until the next call. It may
// be longer than the buffer of r.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return line, err
	}
	long := append([]byte(nil), line...)
	for errors.Is(err, bufio.ErrBufferFull) {
		if len(long) > MaxLine {
			return nil, fmt.Errorf("line of more than %d bytes", MaxLine)
		}
		line, err = r.ReadSlice('\n')
		long = append(long, line...)
	}
	return long, err
}

// fail ends the connection for everyone, once.
func (c *Client) fail(err error) {
	c.conn.Close()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = fmt.Errorf("%w: %w", ErrClosed, err)
		close(c.done)
	}
}

// Done is closed when the connection is gone.
func (c *Client) Done() <-chan struct{} { return c.done }

// Close closes the connection and waits for the last event to be handled.
// Commands under way fail with [ErrClosed]. A second call does nothing.
func (c *Client) Close() error {
	c.fail(net.ErrClosed)
	c.wg.Wait()
	return nil
}
