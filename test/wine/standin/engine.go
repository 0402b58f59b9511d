package standin

import (
	"time"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcs/hcstest"
	"github.com/byrevm/byre/internal/engine/computecore"
)

// T is what a test has.
type T interface {
	Helper()
	Cleanup(func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Engine returns a computecore engine whose service is made of mem: on
// Windows through the DLL, elsewhere in the same process. All its systems
// have to be closed when t ends.
func Engine(t T, mem *hcstest.Engine) *computecore.Engine {
	t.Helper()
	return Start(t, mem, Script{}).Engine(mem.Host())
}

// A Bench is a service and what stands between it and the engine.
type Bench struct {
	*Service
	dll computecore.Service
}

// Engine returns an engine on the bench. Only the build of host counts, and
// that only where it cannot be asked of Windows.
func (b *Bench) Engine(host hcs.HostInfo) *computecore.Engine {
	return b.new(computecore.Config{Host: hcs.HostInfo{Build: otherBuild(host)}})
}

// EngineWith returns one whose calls may take no longer than limit.
func (b *Bench) EngineWith(limit time.Duration) *computecore.Engine {
	return b.new(computecore.Config{Host: hcs.HostInfo{Build: otherBuild(hcs.HostInfo{})}, Timeout: limit})
}

func (b *Bench) new(c computecore.Config) *computecore.Engine {
	c.Service, c.Sockets = b.dll, b.Service
	return computecore.New(c)
}
