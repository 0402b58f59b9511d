//go:build linux

package runc

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// consoleTime is how long the terminal may take after the program has ended:
// it has been sent by then.
var consoleTime = 10 * time.Second // a variable for tests

// A console is the socket on which the program hands over a terminal.
type console struct {
	dir, path string
	l         *net.UnixListener
}

func (r *Runtime) listenConsole() (*console, error) {
	if err := os.MkdirAll(r.Temp, 0o700); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(r.Temp, "tty")
	if err != nil {
		return nil, err
	}
	c := &console{dir: dir, path: filepath.Join(dir, "s")}
	c.l, err = net.ListenUnix("unix", &net.UnixAddr{Name: c.path, Net: "unix"})
	if err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("listening for a terminal: %w", err)
	}
	return c, nil
}

func (c *console) close() {
	c.l.Close()
	os.RemoveAll(c.dir)
}

// receive returns the master side of the terminal.
func (c *console) receive() (int, error) {
	c.l.SetDeadline(time.Now().Add(consoleTime))
	conn, err := c.l.AcceptUnix()
	if err != nil {
		return -1, fmt.Errorf("receiving a terminal: %w", err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(consoleTime))
	var b [4096]byte
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(b[:], oob)
	if err != nil {
		return -1, fmt.Errorf("receiving a terminal: %w", err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil {
		return -1, fmt.Errorf("receiving a terminal: %w", err)
	}
	for _, m := range msgs {
		if fds, err := unix.ParseUnixRights(&m); err == nil && len(fds) == 1 {
			unix.CloseOnExec(fds[0])
			return fds[0], nil
		}
	}
	return -1, errors.New("receiving a terminal: the message has none")
}
