package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
)

const (
	logTail  = 16 << 10 // bytes that are kept
	logLines = 12       // lines that are printed
)

// A guestLog keeps the last words of the guest's agent for the case that they
// explain a failure. Otherwise they are not for the user: stderr is the
// container's.
type guestLog struct {
	mu   sync.Mutex
	tail []byte
}

// read is a [uvm.OutputHandler].
func (g *guestLog) read(r io.Reader) { io.Copy(g, r) }

// Write keeps the end of what is written; it never fails.
func (g *guestLog) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tail = append(g.tail, p...)
	if extra := len(g.tail) - logTail; extra > 0 {
		g.tail = append(g.tail[:0], g.tail[extra:]...)
	}
	return len(p), nil
}

// lastWords returns what the agent said when it was not logging, which is what
// it says when it dies; "" if it said nothing.
func (g *guestLog) lastWords() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var words []string
	for line := range bytes.Lines(g.tail) {
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 || line[0] == '{' || line[len(line)-1] == '}' { // an entry, or the end of one
			continue
		}
		words = append(words, "\t"+printable(line))
	}
	return strings.Join(words[:min(len(words), logLines)], "\n") // a crash says what it is first
}

// printable returns a line of the guest without what would change a terminal.
func printable(b []byte) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' {
			return ' '
		}
		return visible(r)
	}, strings.ToValidUTF8(string(b), "?"))
}

// printError prints what went wrong. A guest, an image or a registry may have
// put words into it, which must not change a terminal either.
func printError(w io.Writer, err error) {
	text := strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return r
		}
		return visible(r)
	}, strings.ToValidUTF8(err.Error(), "?"))
	fmt.Fprintf(w, "byre: %s\n", text)
}

// visible replaces the characters that control a terminal.
func visible(r rune) rune {
	if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
		return '.'
	}
	return r
}
