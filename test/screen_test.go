//go:build linux

package test

import (
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// A viewer is a client of a VM's screen: it speaks just enough of RFB 3.8
// (RFC 6143).
type viewer struct {
	net.Conn
	width, height int
}

// view shakes hands, without a password.
func view(t *testing.T, c net.Conn) *viewer {
	t.Helper()
	v := &viewer{Conn: c}
	c.SetDeadline(time.Now().Add(patience))
	if got := v.get(t, 12); string(got[:8]) != "RFB 003." {
		t.Fatalf("the screen says %q", got)
	}
	v.put(t, []byte("RFB 003.008\n"))
	kinds := v.get(t, int(v.get(t, 1)[0]))
	if len(kinds) != 1 || kinds[0] != 1 {
		t.Fatalf("kinds of security are %v, want none only", kinds)
	}
	v.put(t, []byte{1})
	if r := v.get(t, 4); binary.BigEndian.Uint32(r) != 0 {
		t.Fatalf("the screen refused: %v", r)
	}
	v.put(t, []byte{1}) // shared
	v.learn(t)
	return v
}

// learn reads size, format and name.
func (v *viewer) learn(t *testing.T) {
	t.Helper()
	b := v.get(t, 24)
	v.width, v.height = int(binary.BigEndian.Uint16(b)), int(binary.BigEndian.Uint16(b[2:]))
	if b[4] != 32 {
		t.Fatalf("%d bits a pixel", b[4])
	}
	v.get(t, int(binary.BigEndian.Uint32(b[20:])))
	v.put(t, []byte{2, 0, 0, 2, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x21}) // raw, and a size that changes
}

func (v *viewer) get(t *testing.T, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(v, b); err != nil {
		t.Fatalf("reading from the screen: %v", err)
	}
	return b
}

func (v *viewer) put(t *testing.T, b []byte) {
	t.Helper()
	if _, err := v.Write(b); err != nil {
		t.Fatalf("writing to the screen: %v", err)
	}
}

// colours returns how many colours the whole screen has.
func (v *viewer) colours(t *testing.T) int {
	t.Helper()
	seen := make(map[uint32]bool)
	for pixels := 0; pixels < v.width*v.height; {
		r := []byte{3, 0, 0, 0, 0, 0, 0, 0, 0, 0}
		binary.BigEndian.PutUint16(r[6:], uint16(v.width))
		binary.BigEndian.PutUint16(r[8:], uint16(v.height))
		v.put(t, r)
		head := v.get(t, 4)
		if head[0] != 0 {
			t.Fatalf("message %v, want an update", head)
		}
		for range binary.BigEndian.Uint16(head[2:]) {
			b := v.get(t, 12)
			w, h := int(binary.BigEndian.Uint16(b[4:])), int(binary.BigEndian.Uint16(b[6:]))
			if kind := int32(binary.BigEndian.Uint32(b[8:])); kind == -223 {
				v.width, v.height = w, h
				continue
			}
			p := v.get(t, 4*w*h)
			for i := 0; i < len(p); i += 4 {
				seen[binary.LittleEndian.Uint32(p[i:])] = true
			}
			pixels += w * h
		}
	}
	return len(seen)
}

// write types a text.
func (v *viewer) write(t *testing.T, text string) {
	t.Helper()
	key := func(down byte, sym uint32) { v.put(t, binary.BigEndian.AppendUint32([]byte{4, down, 0, 0}, sym)) }
	const shift, enter = 0xffe1, 0xff0d
	for _, r := range text {
		sym := uint32(r)
		if r == '\n' {
			sym = enter
		}
		upper := r >= 'A' && r <= 'Z' || strings.ContainsRune("~!@#$%^&*()_+{}|:\"<>?", r)
		if upper {
			key(1, shift)
		}
		key(1, sym)
		key(0, sym)
		if upper {
			key(0, shift)
		}
	}
}
