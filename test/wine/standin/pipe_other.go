//go:build !windows

package standin

import (
	"io"
	"os"
)

// pipeIn returns a pipe that the service reads, pipeOut one that it writes.
func pipeIn() (io.ReadCloser, io.WriteCloser)  { return pipe() }
func pipeOut() (io.ReadCloser, io.WriteCloser) { return pipe() }

func pipe() (io.ReadCloser, io.WriteCloser) {
	r, w, err := os.Pipe()
	if err != nil {
		panic(err) // out of descriptors, in a test
	}
	return r, w
}
