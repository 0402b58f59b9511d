//go:build !linux && !windows

package engine

import (
	"context"
	"fmt"
	"runtime"

	"github.com/byrevm/byre/hcs"
)

// New returns an engine that makes nothing.
func New(Config) hcs.Engine { return none{} }

// Checks says that this host has no engine.
func Checks(context.Context) []Check {
	return []Check{{Name: "engine", Detail: "none for " + runtime.GOOS}}
}

// none is the engine of a host that has none.
type none struct{}

func (none) Host() hcs.HostInfo { return hcs.HostInfo{Processors: runtime.NumCPU()} }

func (none) Create(_ context.Context, id string, _ hcs.Document) (hcs.System, error) {
	return nil, &hcs.Error{Op: "create", System: id, Err: fmt.Errorf("%w: virtual machines on %s", hcs.ErrNotSupported, runtime.GOOS)}
}
