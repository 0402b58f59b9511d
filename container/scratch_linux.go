package container

import (
	"fmt"
	"os"

	"github.com/byrevm/byre/internal/layers"
)

// newScratch makes a scratch disk in dir that has no name: it is gone with
// the last process that has it open, however that ends. The path is good for
// this process until release.
func newScratch(dir string, size int64) (path string, release func() error, err error) {
	name, err := layers.NewScratch(dir, size)
	if err != nil {
		return "", nil, err
	}
	defer os.Remove(name)
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d", f.Fd()), f.Close, nil
}
