package qemu

import (
	"strings"
	"sync"
	"unicode/utf8"
)

const (
	maxLines      = 256
	maxLineLength = 1024
)

// lines keeps the last lines of a text that somebody not trusted writes: it
// has a limit and no control characters.
type lines struct {
	mu   sync.Mutex
	kept []string
	part []byte // the line that has no end yet
}

// Write takes text in any pieces; it never fails.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range p {
		switch {
		case b == '\n':
			l.endLine()
		case len(l.part) < maxLineLength:
			l.part = append(l.part, b)
		}
	}
	return len(p), nil
}

func (l *lines) endLine() {
	if s := printable(l.part); s != "" {
		if len(l.kept) == maxLines {
			l.kept = append(l.kept[:0], l.kept[1:]...)
		}
		l.kept = append(l.kept, s)
	}
	l.part = l.part[:0]
}

// all returns the lines, the unfinished one included.
func (l *lines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := append([]string(nil), l.kept...)
	if s := printable(l.part); s != "" {
		out = append(out, s)
	}
	return out
}

// last returns the last line, or "".
func (l *lines) last() string {
	if a := l.all(); len(a) > 0 {
		return a[len(a)-1]
	}
	return ""
}

func printable(b []byte) string {
	s := strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r == '\r' || r == 0:
			return -1
		case r < ' ' || r == 0x7f || r == utf8.RuneError || r >= 0x80 && r < 0xa0:
			return '.'
		}
		return r
	}, string(b))
	return strings.TrimRight(s, " ")
}
