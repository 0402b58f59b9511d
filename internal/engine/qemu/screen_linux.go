package qemu

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// openScreen listens for clients of the screen, at a place that follows from
// the id of the system: docs/hcs.md says which. The run folder and the socket
// are the user's alone. QEMU itself listens nowhere: it runs as another user,
// and is handed the connections.
func (s *system) openScreen(ctx context.Context) error {
	path := filepath.Join(s.claim.dir, screenFile)
	if len(path) > maxSocketPath {
		return fmt.Errorf("socket of the screen at %q: a socket's path has at most %d bytes", path, maxSocketPath)
	}
	l, err := listenPrivate(ctx, path)
	if err != nil {
		return fmt.Errorf("listening for the screen: %w", err)
	}
	s.screen = l
	s.background(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			err = s.showScreen(conn.(*net.UnixConn))
			if err != nil {
				s.log.Warn("client of the screen not served", "err", err)
			}
		}
	})
	return nil
}

// showScreen hands a client over to QEMU.
func (s *system) showScreen(conn *net.UnixConn) error {
	f, err := conn.File()
	conn.Close()
	if err != nil {
		return err
	}
	defer f.Close()
	ctx, cancel := context.WithTimeout(context.Background(), rollback)
	defer cancel()
	return s.handOver(ctx, "vnc", f)
}

// handOver gives QEMU a connection of a client for one of its servers.
func (s *system) handOver(ctx context.Context, protocol string, f *os.File) error {
	name := "client-" + protocol
	if err := s.qmp.ExecuteFile(ctx, "getfd", map[string]any{"fdname": name}, nil, f); err != nil {
		return err
	}
	return s.qmp.Execute(ctx, "add_client", map[string]any{"protocol": protocol, "fdname": name}, nil)
}
