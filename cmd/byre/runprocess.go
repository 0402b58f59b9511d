package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/term"

	"github.com/byrevm/byre/container"
	"github.com/byrevm/byre/cow"
)

// process runs the container's command with byre's own streams and returns
// its exit code.
func (r *run) process(ctx context.Context, c *container.Container) (code int, err error) {
	f := r.flags
	var stdin io.Reader = os.Stdin
	if f.tty && f.interactive {
		keys, restore, err := rawTerminal(os.Stdin, r.signals.resize)
		if err != nil {
			return 0, err
		}
		defer restore()
		stdin = keys
	}
	cmd := c.Init()
	cmd.Stdout = os.Stdout
	if f.interactive {
		cmd.Stdin = stdin
	}
	if !f.tty {
		cmd.Stderr = os.Stderr
	}
	if err := cmd.Start(ctx); err != nil {
		return 0, fmt.Errorf("starting the command: %w", err)
	}
	r.signals.forward(cmd.Process, f.tty)
	err = cmd.Wait()
	var exit *cow.ExitError
	switch {
	case ctx.Err() != nil:
		return 0, context.Cause(ctx)
	case errors.As(err, &exit):
		return exit.Code, nil
	case errors.Is(err, syscall.EPIPE):
		return 128 + int(syscall.SIGPIPE), nil // who reads our output is gone, as a shell has it
	}
	return 0, err
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
