package usernet

import (
	"bufio"
	"encoding/binary"
	"io"
	"net/netip"
	"slices"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// lengthSize is the size of what stands before each frame.
const lengthSize = 4

// maxFrame is the longest frame that is taken; the device model sends none
// that is longer.
const maxFrame = 4096 + 65536

// receive gives the guest's frames to the stack. A frame that is too long ends
// the network: the stream has no other place to go on at.
func (n *Net) receive() {
	defer close(n.done)
	r := bufio.NewReaderSize(n.conn, 128<<10)
	var size [lengthSize]byte
	for {
		if _, err := io.ReadFull(r, size[:]); err != nil {
			return
		}
		length := binary.BigEndian.Uint32(size[:])
		if length > maxFrame {
			n.log.Warn("network ended by a frame that is too long", "length", length)
			return
		}
		frame := make([]byte, length)
		if _, err := io.ReadFull(r, frame); err != nil {
			return
		}
		if length < header.EthernetMinimumSize {
			continue
		}
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(frame)})
		n.link.InjectInbound(0, pkt)
		pkt.DecRef()
	}
}

// send gives the stack's frames to the guest. When the guest does not take
// them the queue fills up and the stack drops what does not fit.
func (n *Net) send() {
	w := bufio.NewWriterSize(n.conn, 128<<10)
	var size [lengthSize]byte
	for {
		pkt := n.link.Read()
		if pkt == nil {
			if w.Flush() != nil {
				return
			}
			if pkt = n.link.ReadContext(n.ctx); pkt == nil {
				return
			}
		}
		view := pkt.ToView()
		frame := view.AsSlice()
		if n.truthful(frame) {
			binary.BigEndian.PutUint32(size[:], uint32(len(frame)))
			w.Write(size[:])
			w.Write(frame) // an error shows up when flushing
		}
		view.Release()
		pkt.DecRef()
	}
}

// truthful tells whether the guest may see a frame. The stack takes packets
// for every address, and so also answers pings as if it were all the world,
// and questions for the neighbour that has an address, even the guest's own.
func (n *Net) truthful(frame []byte) bool {
	eth := header.Ethernet(frame)
	p := frame[header.EthernetMinimumSize:]
	switch eth.Type() {
	case header.ARPProtocolNumber:
		a := header.ARP(p)
		return !a.IsValid() || a.Op() != header.ARPReply || n.isGateway(tcpip.AddrFromSlice(a.ProtocolAddressSender()))
	case header.IPv4ProtocolNumber:
		ip := header.IPv4(p)
		if len(p) < header.IPv4MinimumSize || ip.Protocol() != uint8(header.ICMPv4ProtocolNumber) || len(p) < int(ip.HeaderLength())+header.ICMPv4MinimumSize {
			return true
		}
		return header.ICMPv4(p[ip.HeaderLength():]).Type() != header.ICMPv4EchoReply || n.isGateway(ip.SourceAddress())
	case header.IPv6ProtocolNumber:
		ip := header.IPv6(p)
		if len(p) < header.IPv6MinimumSize+header.ICMPv6MinimumSize || ip.TransportProtocol() != header.ICMPv6ProtocolNumber {
			return true
		}
		m := header.ICMPv6(p[header.IPv6MinimumSize:])
		switch m.Type() {
		case header.ICMPv6EchoReply:
			return n.isGateway(ip.SourceAddress())
		case header.ICMPv6NeighborAdvert:
			if len(m) < header.ICMPv6NeighborAdvertMinimumSize {
				return false
			}
			return n.isGateway(header.NDPNeighborAdvert(m.MessageBody()).TargetAddress())
		}
	}
	return true
}

func (n *Net) isGateway(a tcpip.Address) bool {
	return slices.ContainsFunc(n.cfg.gateways(), func(g netip.Addr) bool { return address(g) == a })
}
