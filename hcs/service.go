package hcs

import "github.com/Microsoft/go-winio/pkg/guid"

// A ServiceID names a socket service of a system, in the guest or on the
// host.
type ServiceID guid.GUID

// Vsock ports of the host that a Linux guest connects to (spec §3.1).
const (
	EntropyPort uint32 = 1          // 512 random bytes, then end of file
	LogPort     uint32 = 109        // output of the guest's agent
	ClockPort   uint32 = 123        // the host's clock; served by engines that have no clock device of their own
	Plan9Port   uint32 = 564        // file shares, by 9P
	LockPort    uint32 = 565        // who of those that wait for a lock of a file share has a signal
	PipePort    uint32 = 0x20000000 // Unix sockets of the host: this and those above it, up to the bridge
	BridgePort  uint32 = 0x40000000 // the bridge; streams of processes use the ports above it
)

// WindowsBridge is the service at which a Windows guest reaches the host's
// end of the bridge.
var WindowsBridge = ServiceID{Data1: 0xacef5661, Data2: 0x84a1, Data3: 0x4e44, Data4: [8]byte{0x85, 0x6b, 0x62, 0x45, 0xe6, 0x9f, 0x46, 0x20}}

// vsockTemplate is the GUID in whose first 32 bits a vsock port stands
// (VMADDR over hvsock).
var vsockTemplate = guid.GUID{Data2: 0xfacb, Data3: 0x11e6, Data4: [8]byte{0xbd, 0x58, 0x64, 0x00, 0x6a, 0x79, 0x86, 0xd3}}

// VsockServiceID returns the service that stands for a vsock port.
func VsockServiceID(port uint32) ServiceID {
	g := vsockTemplate
	g.Data1 = port
	return ServiceID(g)
}

// VsockPort returns the vsock port that s stands for, if it stands for one.
func (s ServiceID) VsockPort() (port uint32, ok bool) {
	g := guid.GUID(s)
	g.Data1 = 0
	return s.Data1, g == vsockTemplate
}

func (s ServiceID) String() string { return guid.GUID(s).String() }
