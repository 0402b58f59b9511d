package qemu

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/pipe"
)

// A socket is a Unix socket of the host that the guest reaches at a port of
// its own.
type socket struct {
	port  uint32
	sock  *pipe.Socket
	relay *pipe.Relay // nil before add
}

// checkPipe refuses what is no Unix socket, or cannot be reached.
func checkPipe(path string, p *hcsschema.PipeSocket) error {
	switch {
	case strings.HasPrefix(path, `\\`):
		return fmt.Errorf("%w: the Windows pipe %s: on Linux a pipe is the path of a Unix socket", hcs.ErrNotSupported, path)
	case !filepath.IsAbs(path):
		return fmt.Errorf("pipe %q: not an absolute path", path)
	case p.Port == 0:
		return fmt.Errorf("%w: a pipe without Port, as the agent of the guest shares no sockets", hcs.ErrNotSupported)
	case p.Port < hcs.PipePort || p.Port >= hcs.BridgePort:
		return fmt.Errorf("%w: Port %d of a pipe: from %d to %d", hcs.ErrNotSupported, p.Port, hcs.PipePort, hcs.BridgePort-1)
	}
	return nil
}

// openSocket opens the socket, which is the same one from then on.
func openSocket(path string, p *hcsschema.PipeSocket) (*socket, error) {
	s, err := pipe.Open(path)
	if err != nil {
		return nil, err
	}
	return &socket{port: p.Port, sock: s}, nil
}

func (k *socket) is(device) bool { return false } // never kept
func (k *socket) writes() bool   { return false }

func (k *socket) add(_ context.Context, s *system) error {
	l, err := s.Listen(hcs.VsockServiceID(k.port))
	if err != nil {
		return err
	}
	k.relay = pipe.Start(pipe.Config{Listener: l, Dial: k.sock.Dial, Logger: s.log})
	return nil
}

// remove ends the connections.
func (k *socket) remove(context.Context, *system) (kept bool, err error) {
	k.relay.Close()
	return false, nil
}

func (k *socket) close() {
	if k.relay != nil {
		k.relay.Close()
	}
	k.sock.Close()
}

// closeSockets closes the sockets of a system that has ended, in which nothing
// is added or removed any more.
func (s *system) closeSockets() {
	for _, sl := range s.slots {
		if k, ok := sl.dev.(*socket); ok {
			k.close()
		}
	}
}
