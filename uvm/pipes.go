package uvm

import (
	"context"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// pipePrefix is what the name of a named pipe starts with.
const pipePrefix = `\\.\pipe\`

// A PipeMount is a pipe of the host that is shared with a guest.
type PipeMount struct {
	// HostPath is the pipe on the host.
	HostPath string

	vm *UtilityVM
}

// Release ends the sharing, see [UtilityVM.RemovePipe].
func (pipe *PipeMount) Release(ctx context.Context) error {
	return pipe.vm.RemovePipe(ctx, pipe.HostPath)
}

// AddPipe shares the pipe at hostPath with the guest. It is not implemented
// yet: the error wraps [hcs.ErrNotSupported].
func (vm *UtilityVM) AddPipe(ctx context.Context, hostPath string) (*PipeMount, error) {
	return nil, notYet("AddPipe")
}

// RemovePipe ends the sharing of the pipe at hostPath. It is not implemented
// yet: the error wraps [hcs.ErrNotSupported].
func (vm *UtilityVM) RemovePipe(ctx context.Context, hostPath string) error {
	return notYet("RemovePipe")
}

// IsPipe reports whether hostPath names a named pipe.
func IsPipe(hostPath string) bool { return strings.HasPrefix(hostPath, pipePrefix) }

// GetContainerPipeMapping returns what the mount of a named pipe is in the
// document of a container: the pipe as the container's host sees it, uvm or,
// if that is nil, this host, and its name in the container.
func GetContainerPipeMapping(uvm *UtilityVM, mount specs.Mount) (src string, dst string) {
	src = mount.Source
	if uvm != nil {
		src = vsmbPrefix + `IPC$\` + strings.TrimPrefix(mount.Source, pipePrefix)
	}
	return src, strings.TrimPrefix(mount.Destination, pipePrefix)
}
