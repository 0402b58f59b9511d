package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/term"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/byrevm/byre/container"
	"github.com/byrevm/byre/cow"
)

// process runs the container's command with byre's own streams and returns
// its exit code.
func (r *run) process(ctx context.Context, c *container.Container) (code int, err error) {
	f := r.flags
	if f.tty && f.interactive {
		restore, err := rawTerminal(os.Stdin)
		if err != nil {
			return 0, err
		}
		defer restore()
	}
	cmd := c.Init()
	cmd.Stdout = os.Stdout
	if f.interactive {
		cmd.Stdin = os.Stdin
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

// terminalSize returns the size of the terminal f, or nil if it is none.
func terminalSize(f *os.File) *specs.Box {
	w, h, err := term.GetSize(int(f.Fd()))
	if err != nil || w <= 0 || h <= 0 {
		return nil
	}
	return &specs.Box{Width: uint(w), Height: uint(h)}
}

// rawTerminal hands keys on as they are typed, until restore.
func rawTerminal(f *os.File) (restore func(), err error) {
	state, err := term.MakeRaw(int(f.Fd()))
	if err != nil {
		return nil, fmt.Errorf("setting the terminal to raw mode: %w", err)
	}
	return func() { term.Restore(int(f.Fd()), state) }, nil
}
