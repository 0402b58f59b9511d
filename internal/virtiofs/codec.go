package virtiofs

import (
	"bytes"
	"encoding/binary"
)

// A decoder takes the members of a request from its bytes. Once there are too
// few it is bad and returns zeros.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) bytes(n int) []byte {
	if n < 0 || n > len(d.b) {
		d.bad, d.b = true, nil
		return nil
	}
	p := d.b[:n:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) u32() uint32 {
	if p := d.bytes(4); p != nil {
		return binary.LittleEndian.Uint32(p)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if p := d.bytes(8); p != nil {
		return binary.LittleEndian.Uint64(p)
	}
	return 0
}

// name takes a string that ends with a NUL.
func (d *decoder) name() string {
	n := bytes.IndexByte(d.b, 0)
	if n < 0 {
		d.bad, d.b = true, nil
		return ""
	}
	return string(d.bytes(n + 1)[:n])
}

// done reports whether the request was exactly what was taken.
func (d *decoder) done() bool { return !d.bad && len(d.b) == 0 }

// An encoder appends the members of an answer.
type encoder struct{ b []byte }

func (e *encoder) u16(v uint16) { e.b = binary.LittleEndian.AppendUint16(e.b, v) }
func (e *encoder) u32(v uint32) { e.b = binary.LittleEndian.AppendUint32(e.b, v) }
func (e *encoder) u64(v uint64) { e.b = binary.LittleEndian.AppendUint64(e.b, v) }

// zero appends n bytes of zero.
func (e *encoder) zero(n int) {
	for range n {
		e.b = append(e.b, 0)
	}
}
