//go:build !windows

package main

import (
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/term"
)

// terminalSize returns the size of the terminal f, or nil if it is none.
func terminalSize(f *os.File) *specs.Box {
	w, h, err := term.GetSize(int(f.Fd()))
	if err != nil || w <= 0 || h <= 0 {
		return nil
	}
	return &specs.Box{Width: uint(w), Height: uint(h)}
}

// rawTerminal returns the keys of the terminal f as they are typed, until
// restore. That its size has changed is said by a signal, and not here.
func rawTerminal(f *os.File, _ func()) (keys io.Reader, restore func(), err error) {
	state, err := term.MakeRaw(int(f.Fd()))
	if err != nil {
		return nil, nil, fmt.Errorf("setting the terminal to raw mode: %w", err)
	}
	return f, func() { term.Restore(int(f.Fd()), state) }, nil
}
