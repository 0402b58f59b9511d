package computecore

import (
	"context"
	"net"

	"github.com/Microsoft/go-winio"
	"github.com/Microsoft/go-winio/pkg/guid"

	"github.com/byrevm/byre/hcs"
)

// hvsock are the sockets of Hyper-V: the address of a system is its runtime
// id, and services are GUIDs as they are.
type hvsock struct{}

func (hvsock) Listen(runtimeID guid.GUID, service hcs.ServiceID) (net.Listener, error) {
	return winio.ListenHvsock(&winio.HvsockAddr{VMID: runtimeID, ServiceID: guid.GUID(service)})
}

func (hvsock) Dial(ctx context.Context, runtimeID guid.GUID, service hcs.ServiceID) (net.Conn, error) {
	return winio.Dial(ctx, &winio.HvsockAddr{VMID: runtimeID, ServiceID: guid.GUID(service)})
}

// standIn are the sockets of engines that are made without any, instead of the
// hypervisor's.
var standIn Sockets

// StandIn has engines that are made without sockets use s, until restore. It
// is for tests of whole programs where there is no hypervisor; no engine is
// made meanwhile.
func StandIn(s Sockets) (restore func()) {
	before := standIn
	standIn = s
	return func() { standIn = before }
}

func hostSockets() Sockets {
	if standIn != nil {
		return standIn
	}
	return hvsock{}
}
