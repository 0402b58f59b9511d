package engine

import (
	"log/slog"
	"sync"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hns"
)

// A Config sets an engine up. The zero value is what [Host] has. Accel, RunDir
// and Network are for QEMU only.
type Config struct {
	Accel  string       // "auto", "kvm" or "tcg"; "" asks $BYRE_ACCEL and then is "auto"
	RunDir string       // where running systems are written down; "" is the host's usual place
	Logger *slog.Logger // nil is slog.Default()
	// Network is asked for the endpoints that network adapters name. nil is
	// hns.Host().
	Network hns.Network
}

// Host returns the engine of this host, the same at each call. Where there is
// none, its Create fails with [hcs.ErrNotSupported].
func Host() hcs.Engine { return host() }

var host = sync.OnceValue(func() hcs.Engine { return New(Config{}) })

// A Check is something that the engine needs of the host.
type Check struct {
	Name   string // one or two words
	OK     bool
	Detail string // what was found
	Remedy string // what to do if it is not OK; "" if it can be lived with
}
