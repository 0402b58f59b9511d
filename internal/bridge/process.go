package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/byrevm/byre/cow"
)

// connectGrace is how long after the exit of a process its streams may still
// arrive. A guest connects them before it starts the process; this is only
// for those that never do.
const connectGrace = 10 * time.Second

// A process is the host's handle of a process in the guest.
type process struct {
	c                     *Client
	cid                   string
	pid                   uint32
	stdin, stdout, stderr *stream // nil if not asked for

	done chan struct{} // closed when the exit is known, or cannot be
	code int           // set before done is closed, like err
	err  error
	once sync.Once

	stdinMu     sync.Mutex // guards stdinClosed
	stdinClosed bool
}

// exec starts a process in container cid.
func (c *Client) exec(ctx context.Context, cid string, params any) (_ cow.Process, err error) {
	q, err := Quote(params)
	if err != nil {
		return nil, fmt.Errorf("encoding process: %w", err)
	}
	p := &process{c: c, cid: cid, done: make(chan struct{})}
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	req := &ExecuteProcessRequest{Request: c.base(ctx, cid), Settings: ExecuteProcessSettings{ProcessParameters: q}}
	if err := p.open(q, &req.Settings); err != nil {
		return nil, err
	}
	resp := new(ExecuteProcessResponse)
	err = c.call(ctx, ExecuteProcess.Type, req, resp, func(body []byte) {
		r := new(ExecuteProcessResponse)
		if decode(ExecuteProcess.Type, cid, body, r) == nil {
			c.spawn(func() { c.discardProcess(cid, r.ProcessID) })
		}
	})
	if err != nil {
		return nil, err
	}
	p.pid = resp.ProcessID
	// The guest keeps what it knows of the exit until it has been asked once.
	wait := &WaitForProcessRequest{Request: c.base(ctx, cid), ProcessID: p.pid, TimeoutInMs: Infinite}
	if _, err := c.begin(ctx, WaitForProcess.Type, wait, p.exited); err != nil {
		c.spawn(func() { c.discardProcess(cid, p.pid) })
		return nil, fmt.Errorf("waiting for process %d: %w", p.pid, err)
	}
	return p, nil
}

// open opens the streams that params ask for and tells the guest where.
func (p *process) open(params Quoted, s *ExecuteProcessSettings) error {
	var want struct{ CreateStdInPipe, CreateStdOutPipe, CreateStdErrPipe bool }
	if err := json.Unmarshal(params, &want); err != nil {
		return fmt.Errorf("reading process parameters: %w", err)
	}
	var ports StdioPorts
	for _, st := range []struct {
		want bool
		s    **stream
		port *uint32
	}{
		{want.CreateStdInPipe, &p.stdin, &ports.In},
		{want.CreateStdOutPipe, &p.stdout, &ports.Out},
		{want.CreateStdErrPipe, &p.stderr, &ports.Err},
	} {
		if !st.want {
			continue
		}
		var err error
		if *st.s, err = p.c.open(); err != nil {
			return err
		}
		*st.port = (*st.s).port
	}
	if p.c.os != "windows" {
		s.Vsock = &ports
		return nil
	}
	service := func(port uint32) string {
		if port == 0 {
			return ""
		}
		return vsockService(port)
	}
	s.Stdio = &StdioServices{In: service(ports.In), Out: service(ports.Out), Err: service(ports.Err)}
	return nil
}

// discardProcess kills a process that nobody waits for any more.
func (c *Client) discardProcess(cid string, pid uint32) {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	kill := &SignalProcessRequest{Request: c.base(ctx, cid), ProcessID: pid}
	err := c.call(ctx, SignalProcess.Type, kill, new(Response), nil)
	wait := &WaitForProcessRequest{Request: c.base(ctx, cid), ProcessID: pid, TimeoutInMs: uint32(shutdownTimeout.Milliseconds())}
	err = errors.Join(err, c.call(ctx, WaitForProcess.Type, wait, new(WaitForProcessResponse), nil))
	c.log.WarnContext(ctx, "process killed that was started too late", "cid", cid, "pid", pid, "err", err)
}

// exited takes the answer to WaitForProcess.
func (p *process) exited(body []byte, err error) {
	resp := new(WaitForProcessResponse)
	if err == nil {
		err = decode(WaitForProcess.Type, p.cid, body, resp)
	}
	p.once.Do(func() {
		p.code, p.err = int(resp.ExitCode), err
		if p.c.os == "linux" {
			p.code = int(int32(resp.ExitCode))
		}
		if err != nil {
			p.code, p.err = -1, fmt.Errorf("waiting for process %d: %w", p.pid, err)
			p.unconnected(p.err)
		} else if !p.stdin.connected() || !p.stdout.connected() || !p.stderr.connected() {
			time.AfterFunc(connectGrace, func() { p.unconnected(errNeverConnected) })
		}
		close(p.done)
	})
}

var errNeverConnected = errors.New("the guest never connected the stream")

func (p *process) unconnected(err error) {
	p.stdin.fail(err)
	p.stdout.fail(err)
	p.stderr.fail(err)
}

func (p *process) Pid() int { return int(p.pid) }

func (p *process) Stdio() (stdin io.Writer, stdout, stderr io.Reader) {
	if p.stdin != nil {
		stdin = p.stdin
	}
	if p.stdout != nil {
		stdout = p.stdout
	}
	if p.stderr != nil {
		stderr = p.stderr
	}
	return stdin, stdout, stderr
}

func (p *process) CloseStdin(ctx context.Context) error {
	p.stdinMu.Lock()
	closed := p.stdinClosed || p.stdin == nil || p.hasExited()
	p.stdinMu.Unlock()
	if closed {
		return nil
	}
	if err := p.stdin.CloseWrite(ctx); err != nil {
		if p.hasExited() {
			return nil
		}
		return fmt.Errorf("closing stdin of process %d: %w", p.pid, err)
	}
	p.stdinMu.Lock()
	p.stdinClosed = true
	p.stdinMu.Unlock()
	return nil
}

func (p *process) hasExited() bool {
	select {
	case <-p.done:
		return p.err == nil
	default:
		return false
	}
}

func (p *process) ResizeConsole(ctx context.Context, width, height uint16) error {
	req := &ResizeConsoleRequest{Request: p.c.base(ctx, p.cid), ProcessID: p.pid, Height: height, Width: width}
	return p.c.call(ctx, ResizeConsole.Type, req, new(Response), nil)
}

func (p *process) Kill(ctx context.Context) (bool, error) { return p.Signal(ctx, nil) }

// Signal does not ask the guest about a process that has exited: another one
// may have its id by now.
func (p *process) Signal(ctx context.Context, options any) (bool, error) {
	if p.hasExited() {
		return false, nil
	}
	req := &SignalProcessRequest{Request: p.c.base(ctx, p.cid), ProcessID: p.pid}
	if options != nil {
		b, err := encodeRaw(options)
		if err != nil {
			return false, err
		}
		req.Options = b
	}
	err := p.c.call(ctx, SignalProcess.Type, req, new(Response), nil)
	if errors.Is(err, ErrElementNotFound) {
		return false, nil
	}
	return err == nil, err
}

func (p *process) Wait() error {
	<-p.done
	return p.err
}

func (p *process) ExitCode() (int, error) {
	select {
	case <-p.done:
		return p.code, p.err
	default:
		return -1, fmt.Errorf("process %d has not exited", p.pid)
	}
}

func (p *process) Close() error {
	return errors.Join(p.stdin.Close(), p.stdout.Close(), p.stderr.Close())
}
