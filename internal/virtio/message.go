//go:build linux

package virtio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/sys/unix"
)

// The requests of the front end, QEMU, that this device knows (Vhost-user
// Protocol, "Front-end message types").
const (
	reqGetFeatures         = 1
	reqSetFeatures         = 2
	reqSetOwner            = 3
	reqResetOwner          = 4
	reqSetMemTable         = 5
	reqSetVringNum         = 8
	reqSetVringAddr        = 9
	reqSetVringBase        = 10
	reqGetVringBase        = 11
	reqSetVringKick        = 12
	reqSetVringCall        = 13
	reqSetVringErr         = 14
	reqGetProtocolFeatures = 15
	reqSetProtocolFeatures = 16
	reqGetQueueNum         = 17
	reqSetVringEnable      = 18
	reqGetConfig           = 24
	reqSetConfig           = 25
	reqGetMaxMemSlots      = 36
	reqAddMemReg           = 37
	reqRemMemReg           = 38
)

// Message flags.
const (
	msgVersion     = 1
	msgVersionMask = 3
	msgReply       = 1 << 2
	msgNeedReply   = 1 << 3
)

const (
	msgHeaderLen = 12
	maxPayload   = 512 // the largest that is known is 272: GET_CONFIG with 256 bytes
	maxFDs       = 8   // regions of SET_MEM_TABLE
)

// A message is one request with its descriptors, which it owns until taken.
//
//	0        4      8     12
//	request  flags  size  payload
type message struct {
	request, flags uint32
	payload        []byte
	fds            []int
}

// read reads the next message. The payload stays valid until the next read.
func (m *message) read(conn *net.UnixConn, buf *[msgHeaderLen + maxPayload]byte) error {
	m.fds = m.fds[:0]
	oob := make([]byte, unix.CmsgSpace(maxFDs*4))
	for got := 0; got < msgHeaderLen; {
		n, oobn, flags, _, err := conn.ReadMsgUnix(buf[got:msgHeaderLen], oob)
		if oobn > 0 {
			if err := m.addFDs(oob[:oobn]); err != nil {
				return err
			}
		}
		switch {
		case err != nil:
			return err
		case n == 0 && got == 0:
			return io.EOF
		case n == 0:
			return io.ErrUnexpectedEOF
		case flags&unix.MSG_CTRUNC != 0:
			return errors.New("vhost-user: too many descriptors")
		}
		got += n
	}
	le := binary.LittleEndian
	m.request, m.flags = le.Uint32(buf[0:]), le.Uint32(buf[4:])
	size := le.Uint32(buf[8:])
	if size > maxPayload {
		return fmt.Errorf("vhost-user: request %d of %d bytes", m.request, size)
	}
	if m.flags&msgVersionMask != msgVersion || m.flags&msgReply != 0 {
		return fmt.Errorf("vhost-user: request %d with flags %#x", m.request, m.flags)
	}
	m.payload = buf[msgHeaderLen : msgHeaderLen+size]
	_, err := io.ReadFull(conn, m.payload)
	return err
}

// addFDs collects the descriptors of control messages.
func (m *message) addFDs(oob []byte) error {
	cmsgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return fmt.Errorf("vhost-user: control message: %w", err)
	}
	for i := range cmsgs {
		fds, err := unix.ParseUnixRights(&cmsgs[i])
		if err != nil {
			return fmt.Errorf("vhost-user: control message: %w", err)
		}
		m.fds = append(m.fds, fds...)
	}
	if len(m.fds) > maxFDs {
		return errors.New("vhost-user: too many descriptors")
	}
	return nil
}

// close closes the descriptors that nobody took.
func (m *message) close() {
	for _, fd := range m.fds {
		_ = unix.Close(fd)
	}
	m.fds = m.fds[:0]
}

// reply returns the answer to m.
func (m *message) reply(payload []byte) []byte {
	le := binary.LittleEndian
	b := make([]byte, msgHeaderLen, msgHeaderLen+len(payload))
	le.PutUint32(b[0:], m.request)
	le.PutUint32(b[4:], msgVersion|msgReply)
	le.PutUint32(b[8:], uint32(len(payload)))
	return append(b, payload...)
}

// want checks the payload's size and the number of descriptors.
func (m *message) want(size, fds int) error {
	if len(m.payload) != size || len(m.fds) != fds {
		return fmt.Errorf("%d bytes and %d descriptors, not %d and %d", len(m.payload), len(m.fds), size, fds)
	}
	return nil
}

func (m *message) u32(o int) uint32 { return binary.LittleEndian.Uint32(m.payload[o:]) }
func (m *message) u64(o int) uint64 { return binary.LittleEndian.Uint64(m.payload[o:]) }

// region decodes a memory region description at o:
//
//	guest address u64, size u64, user address u64, file offset u64
func (m *message) region(o int) *region {
	return &region{gpa: m.u64(o), size: m.u64(o + 8), uva: m.u64(o + 16), offset: m.u64(o + 24)}
}

// takeKick takes the only descriptor out of m.
func (m *message) takeKick() (*Kick, error) {
	fd := m.fds[0]
	m.fds = m.fds[:0]
	return newKick(fd)
}
