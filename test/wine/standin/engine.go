package standin

import (
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

// Engine returns an engine on the bench. host says what is not asked of the
// host itself.
func (b *Bench) Engine(host hcs.HostInfo) *computecore.Engine {
	return computecore.New(computecore.Config{Service: b.dll, Sockets: b.Service, Host: hcs.HostInfo{Build: otherBuild(host)}})
}
