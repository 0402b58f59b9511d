package vsock

import (
	"net"
	"strconv"
)

// The context ids that byre uses; linux/vm_sockets.h names the first three and the last.
const (
	CIDHypervisor uint32 = 0          // the hypervisor itself: nobody answers there
	CIDLocal      uint32 = 1          // loopback
	CIDHost       uint32 = 2          // the host, seen from any guest
	CIDGuest      uint32 = 3          // the guest of every byre VM
	CIDAny        uint32 = 0xffffffff // for listening: whichever CID this machine has
)

// PortAny asks Listen for any free port. It is never the port of a connection.
const PortAny uint32 = 0xffffffff

// An Addr is one end of a virtual socket. It is comparable and never changes.
type Addr struct {
	CID  uint32
	Port uint32
}

// Network returns "vsock".
func (a Addr) Network() string { return "vsock" }

// String returns "cid:port" in decimal.
func (a Addr) String() string {
	return strconv.FormatUint(uint64(a.CID), 10) + ":" + strconv.FormatUint(uint64(a.Port), 10)
}

var _ net.Addr = Addr{}
