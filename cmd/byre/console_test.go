package main

import (
	"encoding/binary"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// typed returns the events of keys that are pressed and let go.
func typed(chars ...uint16) (all []inputRecord) {
	for _, c := range chars {
		for _, down := range []uint32{1, 0} {
			e := inputRecord{kind: keyEvent}
			binary.LittleEndian.PutUint32(e.event[0:], down)
			binary.LittleEndian.PutUint16(e.event[4:], 1)
			binary.LittleEndian.PutUint16(e.event[10:], c)
			all = append(all, e)
		}
	}
	return all
}

func TestConsoleReader(t *testing.T) {
	repeated := typed('x')[:1]
	binary.LittleEndian.PutUint16(repeated[0].event[4:], 3)
	byNumber := typed('\u00e9')[1:] // Alt is let go
	binary.LittleEndian.PutUint16(byNumber[0].event[6:], keyAlt)
	size := inputRecord{kind: windowSizeEvent}
	queue := [][]inputRecord{
		typed('a', 3, 0x1a), {size}, typed(0xd83d), typed(0xde00), {{kind: 2}, size, size}, typed(0x1b, '[', 'A'),
		repeated, byNumber, typed(0), typed(0xdc00, 0xd800, 'z'),
	}
	sizes := 0
	c := &consoleReader{resize: func() { sizes++ }, read: func(to []inputRecord) (int, error) {
		if len(queue) == 0 {
			return 0, io.EOF
		}
		n := copy(to, queue[0])
		queue = queue[1:]
		return n, nil
	}}
	got, err := io.ReadAll(iotest.OneByteReader(c))
	if err != nil {
		t.Fatal(err)
	}
	if want := "a\x03\x1a\U0001f600\x1b[Axxx\u00e9\ufffdz"; string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if sizes != 2 {
		t.Errorf("the size has changed %d times, want 2", sizes)
	}
	if n, err := c.Read(nil); n != 0 || err != nil {
		t.Errorf("reading nothing: got %d, %v", n, err)
	}
	if s := strings.ToValidUTF8(string(got), "?"); strings.Contains(s, "?") {
		t.Errorf("%q is not UTF-8", got)
	}
}
