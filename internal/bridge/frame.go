package bridge

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

const headerSize = 16

// MaxMessage is the largest message, header included, that either end takes.
const MaxMessage = 4 << 20

// ReferenceMaxMessage is what hosts of the reference take: a larger answer
// ends their bridge. A guest keeps its answers below it where it can.
const ReferenceMaxMessage = 64 << 10

// A frame is one message.
//
//	 0        4        8                16
//	+--------+--------+-----------------+------
//	|  type  |  size  |       id        | body    little-endian
//	+--------+--------+-----------------+------
//
// The size counts header and body. A response repeats the id of its request.
type frame struct {
	Type Type
	ID   uint64
	Body []byte
}

// readFrame reads one message. It takes memory in proportion to what has
// arrived, not to the size that the header announces.
func readFrame(r io.Reader) (frame, error) {
	var b [headerSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return frame{}, err
	}
	f := frame{Type: Type(binary.LittleEndian.Uint32(b[0:])), ID: binary.LittleEndian.Uint64(b[8:])}
	size := binary.LittleEndian.Uint32(b[4:])
	if size < headerSize || size > MaxMessage {
		return f, fmt.Errorf("%w: invalid message size %d", ErrProtocol, size)
	}
	want := int64(size - headerSize)
	var body bytes.Buffer
	if n, err := body.ReadFrom(io.LimitReader(r, want)); err != nil {
		return f, fmt.Errorf("reading message body: %w", err)
	} else if n < want {
		return f, fmt.Errorf("reading message body: %w", io.ErrUnexpectedEOF)
	}
	f.Body = body.Bytes()
	return f, nil
}

// encode returns the bytes of a message whose body is the JSON of v and a
// line feed, which the reference writes too.
func encode(t Type, id uint64, v any) ([]byte, error) {
	var b bytes.Buffer
	b.Write(make([]byte, headerSize))
	if err := json.NewEncoder(&b).Encode(v); err != nil {
		return nil, err
	}
	if b.Len() > MaxMessage {
		return nil, fmt.Errorf("%w: %v of %d bytes", ErrTooLarge, t, b.Len())
	}
	f := b.Bytes()
	binary.LittleEndian.PutUint32(f[0:], uint32(t))
	binary.LittleEndian.PutUint32(f[4:], uint32(len(f)))
	binary.LittleEndian.PutUint64(f[8:], id)
	return f, nil
}

// A Message is a message as an observer sees it. It must not be changed or
// kept.
type Message struct {
	Type Type
	ID   uint64
	Body []byte // JSON
	Sent bool   // by this end
}
