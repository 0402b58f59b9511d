//go:build linux

package virtio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
)

// Features of the device (VIRTIO 1.2 §6) and of vhost-user.
const (
	featIndirect = 1 << 28
	featEvents   = 1 << 29
	featProtocol = 1 << 30 // vhost-user has protocol features
	featVersion1 = 1 << 32
	ringFeatures = featIndirect | featEvents | featProtocol | featVersion1

	protoMQ          = 1 << 0
	protoReplyAck    = 1 << 3
	protoConfig      = 1 << 9
	protoMemorySlots = 1 << 15
	protoAlways      = protoMQ | protoReplyAck | protoMemorySlots
)

func (b *Backend) offered() uint64 { return b.model.Features | ringFeatures }

func (b *Backend) offeredProtocol() uint64 {
	if b.model.Space == nil {
		return protoAlways
	}
	return protoAlways | protoConfig
}

// Serve answers QEMU until it goes, then ends everything. It is called once.
func (b *Backend) Serve() {
	defer close(b.done)
	err := b.converse()
	switch {
	case errors.Is(err, net.ErrClosed): // stop was called, and its reason stays
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		err = io.EOF
	}
	b.Stop(err)
	b.finish()
}

func (b *Backend) converse() error {
	var buf [msgHeaderLen + maxPayload]byte
	var m message
	for {
		err := m.read(b.sock, &buf)
		var reply []byte
		if err == nil {
			reply, err = b.handle(&m)
		}
		m.close()
		if err == nil && reply != nil {
			_, err = b.sock.Write(reply)
		}
		if err != nil {
			return err
		}
	}
}

// handle does what m asks. An error that QEMU wants to know goes into the
// reply, any other one is the end of the device.
func (b *Backend) handle(m *message) (reply []byte, err error) {
	payload, answers, err := b.dispatch(m)
	if answers && err == nil {
		return m.reply(payload), nil
	}
	if m.flags&msgNeedReply != 0 && b.protocol&protoReplyAck != 0 && !answers {
		var status [8]byte
		if err != nil {
			b.log.Warn("vhost-user request failed", "device", b.model.Name, "request", m.request, "err", err)
			status[0] = 1
		}
		return m.reply(status[:]), nil
	}
	if err != nil {
		return nil, fmt.Errorf("vhost-user: request %d: %w", m.request, err)
	}
	return nil, nil
}

// dispatch does what m asks and returns the payload of the answer, if the
// request has one.
func (b *Backend) dispatch(m *message) (payload []byte, answers bool, err error) {
	switch m.request {
	case reqGetFeatures:
		return u64(b.offered()), true, m.want(0, 0)
	case reqGetProtocolFeatures:
		return u64(b.offeredProtocol()), true, m.want(0, 0)
	case reqGetQueueNum:
		return u64(uint64(len(b.model.Rings))), true, m.want(0, 0)
	case reqGetMaxMemSlots:
		return u64(maxRegions), true, m.want(0, 0)
	case reqGetConfig:
		payload, err = b.getConfig(m)
		return payload, true, err
	case reqGetVringBase:
		payload, err = b.getVringBase(m)
		return payload, true, err
	case reqSetFeatures:
		return nil, false, m.choose(&b.features, b.offered())
	case reqSetProtocolFeatures:
		return nil, false, m.choose(&b.protocol, b.offeredProtocol())
	case reqSetOwner:
		return nil, false, m.want(0, 0)
	case reqResetOwner:
		if err = m.want(0, 0); err == nil {
			b.halt(syscall.ECONNRESET)
		}
		return nil, false, err
	case reqSetMemTable:
		return nil, false, b.setMemTable(m)
	case reqAddMemReg:
		return nil, false, b.addMemReg(m)
	case reqRemMemReg:
		return nil, false, b.remMemReg(m)
	case reqSetVringNum, reqSetVringBase, reqSetVringEnable:
		return nil, false, b.setVringState(m)
	case reqSetVringAddr:
		return nil, false, b.setVringAddr(m)
	case reqSetVringKick, reqSetVringCall, reqSetVringErr:
		return nil, false, b.setVringFile(m)
	case reqSetConfig:
		return nil, false, errors.New("the configuration cannot be written")
	}
	return nil, false, errors.New("unknown request")
}

// choose stores a set of features that must be among the offered ones.
func (m *message) choose(to *uint64, offered uint64) error {
	if err := m.want(8, 0); err != nil {
		return err
	}
	if f := m.u64(0); f&^offered != 0 {
		return fmt.Errorf("features %#x were not offered", f&^offered)
	}
	*to = m.u64(0)
	return nil
}

// getConfig reads the configuration space. Wire: offset u32, size u32, flags
// u32, size bytes. An empty answer is an error.
func (b *Backend) getConfig(m *message) ([]byte, error) {
	if len(m.payload) < 12 || len(m.fds) != 0 || uint64(m.u32(4))+12 != uint64(len(m.payload)) {
		return nil, errors.New("malformed")
	}
	config := b.model.Space
	offset, size := uint64(m.u32(0)), uint64(m.u32(4))
	if offset+size > uint64(len(config)) {
		return nil, nil
	}
	copy(m.payload[12:], config[offset:offset+size])
	return m.payload, nil
}

// finish ends everything after the conversation. What the guest had sent by then
// is still looked at.
func (b *Backend) finish() {
	cause := b.Ended()
	b.halt(cause)
	b.kicks.Wait()
	if err := b.setMemory(newMemory(nil)); err != nil {
		b.log.Warn("guest memory not released", "device", b.model.Name, "err", err)
	}
	b.model.Finished(cause)
	b.log.Debug("device ended", "device", b.model.Name, "err", cause)
}

func u64(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }
