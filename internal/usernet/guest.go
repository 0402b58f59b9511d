package usernet

import (
	"context"
	"fmt"
	"net"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
)

// dial connects to a port of the guest, from the gateway.
func (n *Net) dial(ctx context.Context, protocol string, port uint16) (net.Conn, error) {
	proto := ipv4.ProtocolNumber
	if n.cfg.Guest.Is6() {
		proto = ipv6.ProtocolNumber
	}
	to := tcpip.FullAddress{NIC: nicID, Addr: address(n.cfg.Guest), Port: port}
	from := tcpip.FullAddress{NIC: nicID, Addr: address(n.cfg.Gateway)}
	// Not the result itself: a nil pointer in an interface is not nil.
	if protocol == TCP {
		c, err := n.connect(ctx, from, to, proto)
		if err != nil {
			return nil, fmt.Errorf("port %d of the guest: %w", port, err)
		}
		return c, nil
	}
	c, err := gonet.DialUDP(n.stack, &from, &to, proto)
	if err != nil {
		return nil, fmt.Errorf("port %d of the guest: %w", port, err)
	}
	return c, nil
}
