package bridge

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
)

func rawFrame(t Type, size uint32, id uint64, body []byte) []byte {
	b := make([]byte, headerSize)
	binary.LittleEndian.PutUint32(b[0:], uint32(t))
	binary.LittleEndian.PutUint32(b[4:], size)
	binary.LittleEndian.PutUint64(b[8:], id)
	return append(b, body...)
}

func TestCase86FrameSizes(t *testing.T) {
	for _, c := range []struct {
		name string
		size uint32
		body int
		want error
	}{
		{"empty", 16, 0, nil},
		{"15 bytes", 15, 0, ErrProtocol},
		{"0 bytes", 0, 0, ErrProtocol},
		{"64 KiB", 64 << 10, 64<<10 - 16, nil},
		{"64 KiB and 1", 64<<10 + 1, 64<<10 - 15, nil},
		{"maximum", MaxMessage, MaxMessage - 16, nil},
		{"maximum and 1", MaxMessage + 1, MaxMessage - 15, ErrProtocol},
		{"4 GiB", 0xffffffff, 100, ErrProtocol},
		{"short body", 100, 83, io.ErrUnexpectedEOF},
		{"no body", 100, 0, io.ErrUnexpectedEOF},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := readFrame(bytes.NewReader(rawFrame(Create.Type, c.size, 7, make([]byte, c.body))))
			if !errors.Is(err, c.want) {
				t.Fatalf("got error %v, want %v", err, c.want)
			}
			if err == nil && (len(f.Body) != c.body || f.ID != 7 || f.Type != Create.Type) {
				t.Errorf("got %v, id %d, %d bytes", f.Type, f.ID, len(f.Body))
			}
		})
	}
	if _, err := readFrame(strings.NewReader("")); err != io.EOF {
		t.Errorf("no frame: got %v, want EOF", err)
	}
	if _, err := readFrame(strings.NewReader("short header")); err != io.ErrUnexpectedEOF {
		t.Errorf("short header: got %v, want unexpected EOF", err)
	}
}

// A header that announces much costs nothing until it has arrived.
func TestFrameMemory(t *testing.T) {
	b := rawFrame(Create.Type, MaxMessage, 0, make([]byte, 1000))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const n = 100
	for range n {
		readFrame(bytes.NewReader(b))
	}
	runtime.ReadMemStats(&after)
	if got := (after.TotalAlloc - before.TotalAlloc) / n; got > 64<<10 {
		t.Errorf("reading 1000 bytes of a large message allocates %d bytes", got)
	}
}

func TestEncodeTooLarge(t *testing.T) {
	_, err := encode(ModifySettings.Type, 1, strings.Repeat("x", MaxMessage))
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v, want %v", err, ErrTooLarge)
	}
	if _, err := encode(ModifySettings.Type, 1, func() {}); err == nil {
		t.Error("a function was encoded")
	}
}

// The first message of a connection, byte for byte (spec §3.15).
func TestFirstMessage(t *testing.T) {
	req := &negotiateRequest{Request: Request{ActivityID: NilContainer}, MinimumVersion: 4, MaximumVersion: 4}
	b, err := encode(negotiate.Type, 0, req)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := hex.EncodeToString(b[:16]), "010b10107d0000000000000000000000"; got != want {
		t.Errorf("header is %s, want %s", got, want)
	}
	if got, want := string(b[16:]), `{"ContainerId":"","ActivityId":"00000000-0000-0000-0000-000000000000","MinimumVersion":4,"MaximumVersion":4}`+"\n"; got != want {
		t.Errorf("body is  %s\nwant %s", got, want)
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add(rawFrame(Create.Type, 18, 1, []byte("{}")))
	f.Add(rawFrame(Create.Type, 15, 1, nil))
	f.Add(rawFrame(Create.Type, 0xffffffff, 1, []byte("{}")))
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, err := readFrame(bytes.NewReader(b))
		if err != nil {
			return
		}
		if again := rawFrame(fr.Type, uint32(headerSize+len(fr.Body)), fr.ID, fr.Body); !bytes.HasPrefix(b, again) {
			t.Fatalf("%x was read as %x", b, again)
		}
	})
}
