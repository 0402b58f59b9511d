//go:build linux

package vhostuser

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
	features     = featIndirect | featEvents | featProtocol | featVersion1

	protoMQ          = 1 << 0
	protoReplyAck    = 1 << 3
	protoConfig      = 1 << 9
	protoMemorySlots = 1 << 15
	protocol         = protoMQ | protoReplyAck | protoConfig | protoMemorySlots
)

// rings is how many QEMU shares; it keeps the event queue.
const rings = 2

// serve answers QEMU until it goes, then ends everything.
func (d *Device) serve() {
	defer close(d.done)
	err := d.converse()
	switch {
	case errors.Is(err, net.ErrClosed): // stop was called, and its reason stays
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		err = io.EOF
	}
	d.stop(err)
	d.finish()
}

func (d *Device) converse() error {
	var buf [msgHeaderLen + maxPayload]byte
	var m message
	for {
		err := m.read(d.sock, &buf)
		var reply []byte
		if err == nil {
			reply, err = d.handle(&m)
		}
		m.close()
		if err == nil && reply != nil {
			_, err = d.sock.Write(reply)
		}
		if err != nil {
			return err
		}
	}
}

// handle does what m asks. An error that QEMU wants to know goes into the
// reply, any other one is the end of the device.
func (d *Device) handle(m *message) (reply []byte, err error) {
	payload, answers, err := d.dispatch(m)
	if answers && err == nil {
		return m.reply(payload), nil
	}
	if m.flags&msgNeedReply != 0 && d.protocol&protoReplyAck != 0 && !answers {
		var status [8]byte
		if err != nil {
			d.log.Warn("vhost-user request failed", "request", m.request, "err", err)
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
func (d *Device) dispatch(m *message) (payload []byte, answers bool, err error) {
	switch m.request {
	case reqGetFeatures:
		return u64(features), true, m.want(0, 0)
	case reqGetProtocolFeatures:
		return u64(protocol), true, m.want(0, 0)
	case reqGetQueueNum:
		return u64(rings), true, m.want(0, 0)
	case reqGetMaxMemSlots:
		return u64(maxRegions), true, m.want(0, 0)
	case reqGetConfig:
		payload, err = d.getConfig(m)
		return payload, true, err
	case reqGetVringBase:
		payload, err = d.getVringBase(m)
		return payload, true, err
	case reqSetFeatures:
		return nil, false, m.choose(&d.features, features)
	case reqSetProtocolFeatures:
		return nil, false, m.choose(&d.protocol, protocol)
	case reqSetOwner:
		return nil, false, m.want(0, 0)
	case reqResetOwner:
		if err = m.want(0, 0); err == nil {
			d.halt(syscall.ECONNRESET)
		}
		return nil, false, err
	case reqSetMemTable:
		return nil, false, d.setMemTable(m)
	case reqAddMemReg:
		return nil, false, d.addMemReg(m)
	case reqRemMemReg:
		return nil, false, d.remMemReg(m)
	case reqSetVringNum, reqSetVringBase, reqSetVringEnable:
		return nil, false, d.setVringState(m)
	case reqSetVringAddr:
		return nil, false, d.setVringAddr(m)
	case reqSetVringKick, reqSetVringCall, reqSetVringErr:
		return nil, false, d.setVringFile(m)
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

// getConfig reads the configuration space (VIRTIO 1.2 §5.10.4), which is the
// guest's CID. Wire: offset u32, size u32, flags u32, size bytes. An empty
// answer is an error.
func (d *Device) getConfig(m *message) ([]byte, error) {
	if len(m.payload) < 12 || len(m.fds) != 0 || uint64(m.u32(4))+12 != uint64(len(m.payload)) {
		return nil, errors.New("malformed")
	}
	config := u64(d.cid)
	offset, size := uint64(m.u32(0)), uint64(m.u32(4))
	if offset+size > uint64(len(config)) {
		return nil, nil
	}
	copy(m.payload[12:], config[offset:offset+size])
	return m.payload, nil
}

// finish ends everything after the conversation. What the guest had sent by then
// still reaches the connections.
func (d *Device) finish() {
	d.mu.Lock()
	cause := gone{d.ended}
	d.mu.Unlock()
	d.halt(cause)
	d.kicks.Wait()
	if err := d.setMemory(&memory{}); err != nil {
		d.log.Warn("guest memory not released", "err", err)
	}
	d.mu.Lock()
	close(d.ready)
	listeners := d.listeners
	d.listeners = map[uint32]*listener{}
	d.mu.Unlock()
	for _, l := range listeners {
		l.finish(cause)
	}
	d.log.Debug("vsock device ended", "err", cause.cause)
}

func u64(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }
