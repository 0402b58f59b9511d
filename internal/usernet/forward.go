package usernet

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
)

// A Forwarder publishes ports of a guest that this host reaches by itself.
type Forwarder struct{ ports ports }

// Forward publishes ports of the guest at an address. If it fails, no port is
// published.
func Forward(guest netip.Addr, publish []Port) (*Forwarder, error) {
	dial := func(ctx context.Context, protocol string, port uint16) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, protocol, netip.AddrPortFrom(guest, port).String())
	}
	f := &Forwarder{newPorts(newLife(), slog.Default(), dial)}
	for _, p := range publish {
		if err := f.ports.publish(p); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return f, nil
}

// Close ends the ports and their connections, and returns when nothing of it
// runs. A second call does nothing.
func (f *Forwarder) Close() error {
	f.ports.end(func() {})
	return nil
}
