package cow

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// killGrace is how long after its kill a process may take to be seen to have
// exited.
const killGrace = 30 * time.Second

// A Cmd runs one process in a process host, in the shape of os/exec. Set the
// fields, then call Start and Wait, or Run, or Output, once.
//
//	c := cow.Command(host, "ls", "/")
//	c.Stdout = os.Stdout
//	err := c.Run(ctx) // *cow.ExitError if it did not exit with 0
type Cmd struct {
	// Host runs the process.
	Host ProcessHost

	// Spec is the process. Nil starts the init process of a Linux container.
	Spec *specs.Process

	// Stdin is copied to the process, which then reads end of file; nil is
	// no stdin. Wait does not wait for a read of Stdin that is under way.
	Stdin io.Reader

	// Stdout and Stderr get what the process writes; nil is no such stream.
	// When one fails, the process loses that stream. With Spec.Terminal
	// there is no stderr.
	Stdout, Stderr io.Writer

	// CopyAfterExitTimeout limits the time from the exit until the output
	// has ended; Wait then fails with [io.ErrClosedPipe]. 0 is no limit.
	CopyAfterExitTimeout time.Duration

	// Process is set by Start. Wait closes it.
	Process Process

	copies   sync.WaitGroup // of stdout and stderr
	mu       sync.Mutex     // guards what follows
	copyErr  error          // of stdout or stderr, the first one
	stdinErr error
	starved  error // why the process was killed: its stdin could not be closed
	cut      error // why the streams were closed before their end
	copied   bool  // they have ended

	ctxErr  error         // why the process was killed; set before gone is closed or watcher ends
	gone    chan struct{} // closed when the kill has shown no effect
	waited  chan struct{} // closed when Wait returns
	watcher sync.WaitGroup
}

// An ExitError is the end of a process that did not exit with code 0.
type ExitError struct {
	Code int
	// Cause is why the process was killed, if it was: the error of the context
	// that ended before it, or that its stdin could not be closed.
	Cause error
}

func (e *ExitError) Error() string {
	s := fmt.Sprintf("process exited with code %d", e.Code)
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *ExitError) Unwrap() error { return e.Cause }

// ExitCode returns the code.
func (e *ExitError) ExitCode() int { return e.Code }

// Command returns a Cmd that runs name with args, in the root folder and, in
// a Linux host, with a PATH.
func Command(host ProcessHost, name string, args ...string) *Cmd {
	spec := &specs.Process{Args: append([]string{name}, args...)}
	if host.OS() == "windows" {
		spec.Cwd = `C:\`
	} else {
		spec.Cwd = "/"
		spec.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	}
	return &Cmd{Host: host, Spec: spec}
}

// Start starts the process. When ctx ends, the process is killed. After a
// successful Start the caller must call Wait.
func (c *Cmd) Start(ctx context.Context) error {
	if c.Process != nil {
		return errors.New("command already started")
	}
	params, err := c.parameters()
	if err != nil {
		return err
	}
	p, err := c.Host.CreateProcess(ctx, params)
	if err != nil {
		return err
	}
	c.Process = p
	c.gone, c.waited = make(chan struct{}), make(chan struct{})
	stdin, stdout, stderr := p.Stdio()
	if c.Stdin != nil {
		go c.copyIn(stdin) // cannot be ended while it reads Stdin
	}
	if c.Stdout != nil {
		c.copies.Go(func() { c.copyOut(c.Stdout, stdout) })
	}
	if c.Stderr != nil && stderr != nil {
		c.copies.Go(func() { c.copyOut(c.Stderr, stderr) })
	}
	c.watcher.Go(func() { c.watch(ctx) })
	return nil
}

// Run starts the process and waits for it.
func (c *Cmd) Run(ctx context.Context) error {
	if err := c.Start(ctx); err != nil {
		return err
	}
	return c.Wait()
}

// Output runs the process and returns what it writes to stdout.
func (c *Cmd) Output(ctx context.Context) ([]byte, error) {
	var b bytes.Buffer
	c.Stdout = &b
	err := c.Run(ctx)
	return b.Bytes(), err
}

// Wait returns when the process has exited and all its output has been
// written. It returns nil if the exit code was 0 and the copies succeeded, an
// [*ExitError] for another code, and another error if the exit could not be
// learned.
func (c *Cmd) Wait() error {
	if c.Process == nil {
		return errors.New("command not started")
	}
	exited := make(chan error, 1)
	go func() { exited <- c.Process.Wait() }() // ends with the process or its bridge
	var err error
	select {
	case err = <-exited:
	case <-c.gone:
		err = fmt.Errorf("process %d did not end when it was killed: %w", c.Process.Pid(), c.ctxErr)
	}
	if err != nil {
		c.closeStreams(err) // nothing says that they will ever end
	} else if c.CopyAfterExitTimeout > 0 {
		t := time.AfterFunc(c.CopyAfterExitTimeout, func() { c.closeStreams(io.ErrClosedPipe) })
		defer t.Stop()
	}
	c.copies.Wait()
	c.mu.Lock()
	c.copied = true
	c.mu.Unlock()
	close(c.waited)
	c.watcher.Wait()
	closeErr := c.Process.Close()
	if err != nil {
		return err
	}
	code, err := c.Process.ExitCode()
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if code != 0 {
		return &ExitError{Code: code, Cause: cmp.Or(c.ctxErr, c.starved)}
	}
	switch {
	case c.cut != nil:
		return c.cut
	case c.copyErr != nil:
		return c.copyErr
	case c.stdinErr != nil:
		return c.stdinErr
	}
	return closeErr
}

// closeStreams ends the copies; err is why.
func (c *Cmd) closeStreams(err error) {
	c.mu.Lock()
	late := c.copied
	if !late {
		c.cut = err
	}
	c.mu.Unlock()
	if !late {
		c.Process.Close()
	}
}

// watch kills the process when ctx ends.
func (c *Cmd) watch(ctx context.Context) {
	select {
	case <-c.waited:
		return
	case <-ctx.Done():
	}
	c.ctxErr = ctx.Err()
	kill, cancel := context.WithTimeout(context.WithoutCancel(ctx), killGrace)
	defer cancel()
	c.Process.Kill(kill) // an error shows in that the process goes on
	select {
	case <-c.waited:
	case <-kill.Done():
		close(c.gone)
	}
}

func (c *Cmd) copyIn(w io.Writer) {
	src := &source{r: c.Stdin}
	io.Copy(w, src) // that the process has stopped reading is no failure
	c.mu.Lock()
	c.stdinErr = src.err
	c.mu.Unlock()
	if err := c.Process.CloseStdin(context.Background()); err != nil {
		c.starve(fmt.Errorf("closing stdin: %w", err))
	}
}

// starve ends a process that would wait for the end of its stdin for ever;
// err is why. One that is gone already is left alone.
func (c *Cmd) starve(err error) {
	set := func(err error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.starved = err
	}
	set(err) // before the exit is seen
	if killed, _ := c.Process.Kill(context.Background()); !killed {
		set(nil)
	}
}

// A source remembers why reading failed.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

func (c *Cmd) copyOut(w io.Writer, r io.Reader) {
	_, err := io.Copy(w, r)
	if err == nil {
		return
	}
	c.mu.Lock()
	if c.copyErr == nil {
		c.copyErr = err
	}
	c.mu.Unlock()
	// The guest waits until it is read to the end or the stream is closed.
	if cl, ok := r.(io.Closer); ok {
		cl.Close()
	} else {
		io.Copy(io.Discard, r)
	}
}
