package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/windows"
	"golang.org/x/term"
)

// terminalSize returns the size of the console's window, or nil if there is
// none. The console is asked by its output, whatever the file is.
func terminalSize(*os.File) *specs.Box {
	for _, f := range []*os.File{os.Stdout, os.Stderr} {
		if w, h, err := term.GetSize(int(f.Fd())); err == nil && w > 0 && h > 0 {
			return &specs.Box{Width: uint(w), Height: uint(h)}
		}
	}
	return nil
}

// rawTerminal returns the keys of the console f as they are typed, in the
// sequences of a terminal, until restore; and has the console understand such
// sequences in what is written to it. resize is called when the size of the
// window has changed.
func rawTerminal(f *os.File, resize func()) (keys io.Reader, restore func(), err error) {
	in, out := windows.Handle(f.Fd()), windows.Handle(os.Stdout.Fd())
	undoIn, err := consoleMode(in, windows.ENABLE_VIRTUAL_TERMINAL_INPUT|windows.ENABLE_WINDOW_INPUT,
		windows.ENABLE_ECHO_INPUT|windows.ENABLE_LINE_INPUT|windows.ENABLE_PROCESSED_INPUT|windows.ENABLE_MOUSE_INPUT)
	if err != nil {
		return nil, nil, fmt.Errorf("setting the console to raw mode: %w", err)
	}
	undoOut, err := consoleMode(out, windows.ENABLE_PROCESSED_OUTPUT|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING|windows.DISABLE_NEWLINE_AUTO_RETURN, 0)
	if err != nil { // the output is a file
		undoOut = func() {}
	}
	return &consoleReader{read: readConsole(in), resize: resize}, func() { undoOut(); undoIn() }, nil
}

// consoleMode sets and clears bits of a console's mode.
func consoleMode(h windows.Handle, set, clear uint32) (undo func(), err error) {
	var old uint32
	if err := windows.GetConsoleMode(h, &old); err != nil {
		return nil, err
	}
	if err := windows.SetConsoleMode(h, old&^clear|set); err != nil {
		return nil, err
	}
	return func() { windows.SetConsoleMode(h, old) }, nil
}

var readConsoleInput = windows.NewLazySystemDLL("kernel32.dll").NewProc("ReadConsoleInputW")

// readConsole waits for events of a console.
func readConsole(h windows.Handle) func([]inputRecord) (int, error) {
	return func(to []inputRecord) (int, error) {
		var n uint32
		r, _, err := readConsoleInput.Call(uintptr(h), uintptr(unsafe.Pointer(&to[0])), uintptr(len(to)), uintptr(unsafe.Pointer(&n)))
		switch {
		case r != 0:
			return int(n), nil
		case errors.Is(err, windows.ERROR_INVALID_HANDLE): // the console is gone
			return 0, io.EOF
		}
		return 0, fmt.Errorf("reading the console: %w", err)
	}
}
