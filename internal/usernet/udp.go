package usernet

import (
	"net"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// maxDatagram is the longest payload of UDP.
const maxDatagram = 65507

// handleUDP takes the first datagram of a guest's socket to a destination;
// the next ones find the session. It reports false for what must not go out,
// which the guest is told.
func (n *Net) handleUDP(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	to := addrPort(id.LocalAddress, id.LocalPort)
	names := n.names(to)
	if !names {
		var ok bool
		if to, ok = n.destination(to); !ok {
			return false
		}
	}
	if !take(n.ports.sessions) {
		return true // dropped, as networks do
	}
	var host *net.UDPConn
	if !names {
		var err error
		if host, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to)); err != nil {
			give(n.ports.sessions)
			return false
		}
	}
	var started bool
	udp.NewForwarder(n.stack, func(r *udp.ForwarderRequest) {
		var wq waiter.Queue
		ep, err := r.CreateEndpoint(&wq)
		if err != nil {
			return
		}
		guest := gonet.NewUDPConn(&wq, ep)
		started = n.goes(func() {
			defer give(n.ports.sessions)
			if names {
				n.answerUDP(guest)
			} else {
				n.session(guest, host)
			}
		})
		if !started {
			guest.Close()
		}
	}).HandlePacket(id, pkt)
	if !started {
		give(n.ports.sessions)
		if host != nil {
			host.Close()
		}
	}
	return true
}

// session copies datagrams both ways until none has come for a while.
func (n *Net) session(guest, host net.Conn) {
	if !n.keep(guest) {
		host.Close()
		return
	}
	defer n.drop(guest)
	if !n.keep(host) {
		return
	}
	defer n.drop(host)
	there := make(chan struct{})
	if !n.goes(func() { defer close(there); datagrams(guest, host) }) {
		return
	}
	datagrams(host, guest)
	<-there
}

// datagrams copies from src to dst and ends both. What cannot be delivered is
// lost, as datagrams are.
func datagrams(dst, src net.Conn) {
	defer dst.Close()
	defer src.Close()
	buf := make([]byte, maxDatagram)
	for {
		src.SetReadDeadline(time.Now().Add(idleTime))
		k, err := src.Read(buf)
		if err != nil {
			return // also when the other side says that nobody is there
		}
		// Datagrams in one direction keep the session for the answers.
		dst.SetReadDeadline(time.Now().Add(idleTime))
		dst.Write(buf[:k])
	}
}
