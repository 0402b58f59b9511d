package standin

import (
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/Microsoft/go-winio"
	"golang.org/x/sys/windows"
)

// An end of a pipe that is given away as a handle, through the DLL.
type end struct{ h windows.Handle }

func (end) Read([]byte) (int, error)  { return 0, os.ErrInvalid }
func (end) Write([]byte) (int, error) { return 0, os.ErrInvalid }
func (e end) Close() error            { return windows.CloseHandle(e.h) }

// pipeIn returns a pipe that the service reads, pipeOut one that it writes.
func pipeIn() (io.ReadCloser, io.WriteCloser) {
	near, far := newPipe()
	return near, far
}

func pipeOut() (io.ReadCloser, io.WriteCloser) {
	near, far := newPipe()
	return far, near
}

var pipes atomic.Int64

// newPipe returns the service's end of a pipe, and the other one: both are
// overlapped, as those of the real service are.
func newPipe() (io.ReadWriteCloser, end) {
	name, err := windows.UTF16PtrFromString(fmt.Sprintf(`\\.\pipe\byre-standin-%d-%d`, os.Getpid(), pipes.Add(1)))
	if err != nil {
		panic(err)
	}
	const size = 64 << 10
	server, err := windows.CreateNamedPipe(name,
		windows.PIPE_ACCESS_DUPLEX|windows.FILE_FLAG_OVERLAPPED|windows.FILE_FLAG_FIRST_PIPE_INSTANCE,
		windows.PIPE_TYPE_BYTE|windows.PIPE_REJECT_REMOTE_CLIENTS, 1, size, size, 0, nil)
	if err != nil {
		panic(fmt.Sprintf("making a pipe: %v", err))
	}
	client, err := windows.CreateFile(name, windows.GENERIC_READ|windows.GENERIC_WRITE, 0, nil, windows.OPEN_EXISTING, windows.FILE_FLAG_OVERLAPPED, 0)
	if err != nil {
		panic(fmt.Sprintf("opening a pipe: %v", err))
	}
	near, err := winio.NewOpenFile(server)
	if err != nil {
		panic(fmt.Sprintf("using a pipe: %v", err))
	}
	return near, end{client}
}
