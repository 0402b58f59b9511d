//go:build !windows

package computecore

import (
	"fmt"
	"runtime"
)

// Only on Windows there is a service; elsewhere a Config names one, and what
// it says of the host counts.

func hostService() Service {
	panic(fmt.Sprintf("computecore: %s has no Host Compute Service", runtime.GOOS))
}
func hostSockets() Sockets  { panic(fmt.Sprintf("computecore: %s has no hvsock", runtime.GOOS)) }
func hostBuild() int        { return 0 }
func hostProcessors() int   { return runtime.NumCPU() }
func bootFolders() []string { return nil }
