package uvm

import (
	"context"
	"fmt"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

// pipePrefix is what the name of a named pipe starts with.
const pipePrefix = `\\.\pipe\`

// A PipeMount is one use of a pipe of the host that is shared with a guest.
type PipeMount struct {
	// HostPath is the pipe on the host.
	HostPath string

	vm      *UtilityVM
	release release
}

// Release gives this use of the pipe back, see [UtilityVM.RemovePipe]. If it
// fails it can be called again; once it has succeeded it does nothing.
func (pipe *PipeMount) Release(ctx context.Context) error {
	return pipe.release.do(func() error { return pipe.vm.RemovePipe(ctx, pipe.HostPath) })
}

// AddPipe shares the pipe at hostPath with the guest. A pipe that is shared
// already is counted: each AddPipe is balanced by one Release or one
// [UtilityVM.RemovePipe]. On error nothing is shared.
func (vm *UtilityVM) AddPipe(ctx context.Context, hostPath string) (*PipeMount, error) {
	_, err := vm.pipes.acquire(ctx, hostPath, func() (*attachment, error) {
		a := &attachment{path: hcs.PipePath(hostPath)}
		err := vm.modify(ctx, &hcsschema.ModifySettingRequest{RequestType: hcsschema.Add, ResourcePath: a.path})
		if err != nil {
			return nil, fmt.Errorf("sharing pipe %s: %w", hostPath, err)
		}
		return a, nil
	}, nil)
	if err != nil {
		return nil, err
	}
	return &PipeMount{HostPath: hostPath, vm: vm}, nil
}

// RemovePipe gives one use of the pipe at hostPath back; the last one ends the
// sharing. If that fails it can be called again. A pipe that is not shared is
// [ErrNotAttached], unwrapped.
func (vm *UtilityVM) RemovePipe(ctx context.Context, hostPath string) error {
	return vm.pipes.release(ctx, hostPath, func(a *attachment) error {
		if err := vm.detach(ctx, a); err != nil {
			return fmt.Errorf("removing pipe %s: %w", hostPath, err)
		}
		return nil
	})
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
