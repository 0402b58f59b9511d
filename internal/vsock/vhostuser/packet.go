//go:build linux

package vhostuser

import "encoding/binary"

// headerLen is the size of struct virtio_vsock_hdr (VIRTIO 1.2 §5.10.6):
//
//	0        8        16       20       24   28   30   32    36        40      44
//	src_cid  dst_cid  src_port dst_port len  type op   flags buf_alloc fwd_cnt
const headerLen = 44

// typeStream is the only socket type that this device offers.
const typeStream = 1

// The operations of §5.10.6.
const (
	opRequest uint16 = iota + 1
	opResponse
	opReset
	opShutdown
	opData
	opCreditUpdate
	opCreditRequest
)

// The flags of opShutdown: what the sender will not do any more.
const (
	shutRecv uint32 = 1
	shutSend uint32 = 2
	shutBoth        = shutRecv | shutSend
)

type header struct {
	srcCID, dstCID   uint64
	srcPort, dstPort uint32
	length           uint32 // of the payload
	typ, op          uint16
	flags            uint32
	bufAlloc, fwdCnt uint32 // the sender's receive buffer, and how much left it so far
}

func (h *header) decode(b *[headerLen]byte) {
	le := binary.LittleEndian
	h.srcCID, h.dstCID = le.Uint64(b[0:]), le.Uint64(b[8:])
	h.srcPort, h.dstPort = le.Uint32(b[16:]), le.Uint32(b[20:])
	h.length = le.Uint32(b[24:])
	h.typ, h.op = le.Uint16(b[28:]), le.Uint16(b[30:])
	h.flags = le.Uint32(b[32:])
	h.bufAlloc, h.fwdCnt = le.Uint32(b[36:]), le.Uint32(b[40:])
}

func (h *header) encode(b *[headerLen]byte) {
	le := binary.LittleEndian
	le.PutUint64(b[0:], h.srcCID)
	le.PutUint64(b[8:], h.dstCID)
	le.PutUint32(b[16:], h.srcPort)
	le.PutUint32(b[20:], h.dstPort)
	le.PutUint32(b[24:], h.length)
	le.PutUint16(b[28:], h.typ)
	le.PutUint16(b[30:], h.op)
	le.PutUint32(b[32:], h.flags)
	le.PutUint32(b[36:], h.bufAlloc)
	le.PutUint32(b[40:], h.fwdCnt)
}

// reset returns the packet that refuses h (§5.10.6.4: same type, ends swapped).
func (h *header) reset() header {
	return header{
		srcCID: h.dstCID, dstCID: h.srcCID,
		srcPort: h.dstPort, dstPort: h.srcPort,
		typ: h.typ, op: opReset,
	}
}
