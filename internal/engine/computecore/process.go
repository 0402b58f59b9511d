package computecore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/byrevm/byre/cow"
	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

// A process of a system or of a container.
type process struct {
	id    string // of the system or container
	calls caller
	watch *watch // of what it runs in
	info  ProcessInfo

	// done is closed when the exit is known, or cannot be.
	done    chan struct{}
	mu      sync.Mutex // guards what follows
	ended   bool       // done is closed
	code    int
	err     error
	closed  bool // Close was called
	noStdin bool // stdin has been closed
}

// executed is a process, or why there is none.
type executed struct {
	h    Handle
	info ProcessInfo
	r    Result
}

// newProcess starts a process in the system of c. w is the watch of what it
// runs in.
func newProcess(ctx context.Context, c *caller, w *watch, params any) (cow.Process, error) {
	const op = "create-process"
	fail := func(err error) error { return &hcs.Error{Op: op, System: c.id, Err: err} }
	doc, err := json.Marshal(params)
	if err != nil {
		return nil, fail(err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fail(err)
	}
	if !c.h.use() {
		return nil, fail(hcs.ErrStopped)
	}
	x, err := do(ctx, c.e.timeout, func() executed {
		defer c.h.release()
		h, info, r := c.e.service.CreateProcess(c.h.h, string(doc))
		return executed{h, info, r}
	}, func(x executed) {
		if !x.r.Failed() {
			c.e.service.CallProcess(CallTerminateProcess, x.h, "")
			x.info.Close()
			c.e.service.CloseProcess(x.h)
		}
	})
	if err != nil {
		return nil, fail(err)
	}
	if err := x.r.failure(op, c.id, ""); err != nil {
		return nil, err
	}
	p := &process{id: c.id, watch: w, info: x.info, done: make(chan struct{})}
	p.calls = caller{e: c.e, id: c.id, h: hold(x.h, c.e.service.CloseProcess), call: c.e.service.CallProcess}
	if r := c.e.service.OnProcess(x.h, p.event); r.Failed() {
		p.Kill(context.WithoutCancel(ctx)) // it is not known to have started
		p.Close()
		return nil, r.failure(op, c.id, "")
	}
	p.ask(ctx) // it may have exited before events were delivered
	go p.outlive()
	return p, nil
}

// event takes what the service reports. It does not block.
func (p *process) event(ev Event) {
	switch ev.Type {
	case EventProcessExited:
		p.exited(ev.Document)
	case EventServiceDisconnect:
		p.end(-1, fmt.Errorf("process %d: the Host Compute Service has disconnected", p.info.Pid))
	}
}

// exited takes the status of the process, if it is one of a process that has
// exited.
func (p *process) exited(document string) {
	var st hcsschema.ProcessStatus
	if err := json.Unmarshal([]byte(document), &st); err != nil || !st.Exited {
		return
	}
	if st.LastWaitResult != 0 {
		p.end(-1, Result{Code: uint32(st.LastWaitResult) | 0x80000000}.failure("wait for process", p.id, ""))
		return
	}
	p.end(int(int32(st.ExitCode)), nil)
}

// ask asks how the process is.
func (p *process) ask(ctx context.Context) {
	if r, err := p.calls.do(ctx, CallProcessProperties, "", dropped); err == nil && !r.Failed() {
		p.exited(r.Document)
	}
}

// outlive ends the process if what it runs in ends without a word about it.
func (p *process) outlive() {
	select {
	case <-p.done:
		return
	case <-p.watch.done:
	}
	ctx, cancel := context.WithTimeout(context.Background(), exitPatience)
	defer cancel()
	p.ask(ctx)
	p.end(-1, fmt.Errorf("process %d: %w: %w", p.info.Pid, hcs.ErrStopped, p.watch.err()))
}

// end says how the process ended, unless that is known.
func (p *process) end(code int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		p.ended, p.code, p.err = true, code, err
		close(p.done)
	}
}

func (p *process) hasExited() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ended && p.err == nil
}

// do makes a call. delivered is false for a process that has exited.
func (p *process) do(ctx context.Context, op string, call Call, document any) (delivered bool, err error) {
	if p.hasExited() {
		return false, nil
	}
	doc := ""
	if document != nil {
		b, err := json.Marshal(document)
		if err != nil {
			return false, &hcs.Error{Op: op, System: p.id, Err: err}
		}
		doc = string(b)
	}
	r, err := p.calls.do(ctx, call, doc, dropped)
	if err != nil {
		return false, &hcs.Error{Op: op, System: p.id, Err: err}
	}
	if r.is(codeProcessStopped, codeElementNotFound) {
		return false, nil
	}
	return !r.Failed(), r.failure(op, p.id, "")
}

func (p *process) Pid() int { return int(p.info.Pid) }

func (p *process) Stdio() (stdin io.Writer, stdout, stderr io.Reader) {
	if p.info.Stdin != nil {
		stdin = p.info.Stdin
	}
	if p.info.Stdout != nil {
		stdout = p.info.Stdout
	}
	if p.info.Stderr != nil {
		stderr = p.info.Stderr
	}
	return stdin, stdout, stderr
}

// CloseStdin has the service close the stream, which it does when what was
// written is delivered, and closes the handle.
func (p *process) CloseStdin(ctx context.Context) error {
	p.mu.Lock()
	over := p.noStdin || p.closed || p.info.Stdin == nil
	p.mu.Unlock()
	if over || p.hasExited() {
		return nil
	}
	_, err := p.do(ctx, "modify-process", CallModifyProcess, hcsschema.ProcessModifyRequest{
		Operation:   hcsschema.ModifyCloseHandle,
		CloseHandle: &hcsschema.CloseHandle{Handle: hcsschema.HandleStdIn},
	})
	if err != nil && !p.hasExited() {
		return err
	}
	p.mu.Lock()
	first := !p.noStdin && !p.closed
	p.noStdin = true
	p.mu.Unlock()
	if !first {
		return nil
	}
	return p.info.Stdin.Close()
}

func (p *process) ResizeConsole(ctx context.Context, width, height uint16) error {
	_, err := p.do(ctx, "modify-process", CallModifyProcess, hcsschema.ProcessModifyRequest{
		Operation:   hcsschema.ModifyConsoleSize,
		ConsoleSize: &hcsschema.ConsoleSize{Height: int32(height), Width: int32(width)},
	})
	return err
}

func (p *process) Signal(ctx context.Context, options any) (bool, error) {
	if options == nil {
		return p.Kill(ctx)
	}
	return p.do(ctx, "signal-process", CallSignalProcess, options)
}

func (p *process) Kill(ctx context.Context) (bool, error) {
	return p.do(ctx, "kill-process", CallTerminateProcess, nil)
}

func (p *process) Wait() error {
	<-p.done
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

func (p *process) ExitCode() (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		return -1, fmt.Errorf("process %d has not exited", p.info.Pid)
	}
	return p.code, p.err
}

var errReleased = errors.New("closed before its end was seen")

// Close also ends the waits for a process that still runs: the service
// reports nothing to a closed handle.
func (p *process) Close() error {
	p.mu.Lock()
	first, stdin := !p.closed, p.info.Stdin
	p.closed = true
	if p.noStdin {
		stdin = nil
	}
	p.mu.Unlock()
	if !first {
		return nil
	}
	p.end(-1, fmt.Errorf("process %d: %w", p.info.Pid, errReleased))
	streams := ProcessInfo{Stdin: stdin, Stdout: p.info.Stdout, Stderr: p.info.Stderr}
	streams.Close()
	if !p.calls.h.shut(closeTimeout) {
		return &hcs.Error{Op: "close-process", System: p.id, Err: fmt.Errorf("calls are still under way: %w", errTimeout)}
	}
	return nil
}
