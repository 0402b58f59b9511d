//go:build linux

package stdio

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Direct is for a process whose standard streams are the connections
// themselves: there is nothing to relay and nothing to wait for.
type Direct struct{}

// Exited does nothing.
func (Direct) Exited() {}

// Resize returns an error: there is no terminal.
func (Direct) Resize(height, width uint16) error { return ErrNoTerminal }

// Files returns blocking duplicates of connections for the three standard
// descriptors, and the null device for those that there are not. The caller
// closes them. The connections can only be closed afterwards.
func Files(c Conns) (files []*os.File, err error) {
	defer func() {
		if err != nil {
			for _, f := range files {
				f.Close()
			}
			files = nil
		}
	}()
	for _, conn := range []Conn{c.In, c.Out, c.Err} {
		var f *os.File
		if conn == nil {
			f, err = os.OpenFile(os.DevNull, os.O_RDWR, 0)
		} else {
			f, err = duplicate(conn)
		}
		if err != nil {
			return files, err
		}
		files = append(files, f)
	}
	return files, nil
}

func duplicate(conn Conn) (*os.File, error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("a %T has no file descriptor", conn)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, err
	}
	to := -1
	var dup error
	err = raw.Control(func(fd uintptr) {
		// The mode belongs to the socket, not to the descriptor.
		if dup = unix.SetNonblock(int(fd), false); dup == nil {
			to, dup = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3)
		}
	})
	if err == nil {
		err = os.NewSyscallError("dup", dup)
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(to), "vsock"), nil
}
