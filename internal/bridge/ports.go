package bridge

import (
	"errors"
	"sync"

	"github.com/Microsoft/go-winio/pkg/guid"
)

// Vsock ports of streams: those above the bridge's own, up to the last that
// is not VMADDR_PORT_ANY.
const (
	firstPort uint32 = 0x40000001
	lastPort  uint32 = 0xfffffffe
)

// ports hands out port numbers in order and, after the last one, those that
// are free again. The zero value is ready.
type ports struct {
	mu   sync.Mutex
	next uint32
	used map[uint32]bool
}

var errNoPort = errors.New("no free vsock port")

// take returns a port that nobody has taken.
func (p *ports) take() (uint32, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used == nil {
		p.used = make(map[uint32]bool)
	}
	if uint32(len(p.used)) > lastPort-firstPort {
		return 0, errNoPort
	}
	for {
		port := max(p.next, firstPort)
		if p.next = port + 1; port == lastPort {
			p.next = firstPort
		}
		if !p.used[port] {
			p.used[port] = true
			return port, nil
		}
	}
}

// free gives a port back. Its listener is closed.
func (p *ports) free(port uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.used, port)
}

// vsockService returns the service that stands for a vsock port where sockets
// are named by GUIDs.
func vsockService(port uint32) string {
	g := guid.GUID{Data1: port, Data2: 0xfacb, Data3: 0x11e6, Data4: [8]byte{0xbd, 0x58, 0x64, 0x00, 0x6a, 0x79, 0x86, 0xd3}}
	return g.String()
}
