package main

import (
	"encoding/binary"
	"unicode/utf16"
	"unicode/utf8"
)

// An inputRecord is INPUT_RECORD: something that happened to a Windows
// console.
type inputRecord struct {
	kind  uint16
	_     uint16
	event [16]byte
}

// Kinds of inputRecord.
const (
	keyEvent        = 1
	windowSizeEvent = 4
)

// keyAlt is the virtual key code of the key that ends a character given by its
// number.
const keyAlt = 0x12

// A consoleReader reads what is typed on a Windows console in raw mode, as
// UTF-8. Reading the console's events and not its characters is what tells of
// a new size, and keeps Ctrl-Z a key like any other.
type consoleReader struct {
	read   func([]inputRecord) (int, error) // waits for at least one
	resize func()                           // the window has another size

	high rune   // first half of a character that needs two
	text []byte // typed, and not read yet
}

// Read implements io.Reader.
func (c *consoleReader) Read(p []byte) (int, error) {
	var events [64]inputRecord
	for len(c.text) == 0 {
		if len(p) == 0 {
			return 0, nil
		}
		n, err := c.read(events[:])
		if err != nil {
			return 0, err
		}
		resized := false
		for _, e := range events[:n] {
			switch e.kind {
			case keyEvent:
				c.key(e)
			case windowSizeEvent:
				resized = true
			}
		}
		if resized {
			c.resize()
		}
	}
	n := copy(p, c.text)
	c.text = c.text[n:]
	return n, nil
}

// key takes a KEY_EVENT_RECORD: BOOL bKeyDown, WORD wRepeatCount, wVirtualKeyCode,
// wVirtualScanCode, WCHAR UnicodeChar, DWORD dwControlKeyState. Keys without a
// character come as the characters of their sequence.
func (c *consoleReader) key(e inputRecord) {
	down := binary.LittleEndian.Uint32(e.event[0:]) != 0
	count := binary.LittleEndian.Uint16(e.event[4:])
	code := binary.LittleEndian.Uint16(e.event[6:])
	char := rune(binary.LittleEndian.Uint16(e.event[10:]))
	if !down && code != keyAlt || char == 0 {
		return
	}
	if utf16.IsSurrogate(char) {
		if char < 0xdc00 {
			c.high = char
			return
		}
		char = utf16.DecodeRune(c.high, char)
	}
	c.high = 0
	for range max(count, 1) {
		c.text = utf8.AppendRune(c.text, char)
	}
}
