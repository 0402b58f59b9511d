package uvm

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync/atomic"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/pipe"
)

// pipePrefix is what the name of a named pipe starts with.
const pipePrefix = `\\.\pipe\`

// A PipeMount is one use of a pipe of the host that is shared with a guest.
type PipeMount struct {
	// HostPath is the pipe on the host.
	HostPath string

	uvmPath string
	vm      *UtilityVM
	release release
}

// UVMPath returns where the guest has a shared Unix socket, for the mount of
// a container; "" if the pipe is none. It stays the same until the last use
// of the socket has been given back.
func (p *PipeMount) UVMPath() string { return p.uvmPath }

// Release gives this use of the pipe back, see [UtilityVM.RemovePipe]. If it
// fails it can be called again; once it has succeeded it does nothing.
func (p *PipeMount) Release(ctx context.Context) error {
	return p.release.do(func() error { return p.vm.RemovePipe(ctx, p.HostPath) })
}

// A pipeSet is the pipes of the host that a guest shares.
type pipeSet struct {
	pipes   refs[string, *sharedPipe] // by path on the host
	left    leftovers
	sockets atomic.Uint32 // what was numbered so far
}

// A sharedPipe is a pipe that the guest has; nil is one that is not there: its
// last user has not heard yet that removing it succeeded in the end.
type sharedPipe struct {
	uvmPath string // "" for a named pipe
	*attachment
}

// AddPipe shares the pipe at hostPath with the guest. A pipe that is shared
// already is counted: each AddPipe is balanced by one Release or one
// [UtilityVM.RemovePipe]. On error nothing is shared.
//
// On Linux a pipe is a stream socket of the host, by its absolute path. It
// must be there, and be somebody's, and stays that socket also when another
// takes its path. Programs of the guest connect to it at [PipeMount.UVMPath],
// and at hostPath: there the guest must have nothing, and a guest whose root
// is read-only has hostPath beneath /run, /tmp and /mnt only. The socket has
// the host's mode and owner. At most 256 connections exist at a time; further
// ones wait.
func (vm *UtilityVM) AddPipe(ctx context.Context, hostPath string) (*PipeMount, error) {
	if err := checkText(hostPath); err != nil {
		return nil, fmt.Errorf("sharing pipe %q: %w", hostPath, err)
	}
	var p *sharedPipe
	err := vm.carry(ctx, func(*call) (err error) {
		p, err = vm.pipes.pipes.acquire(ctx, hostPath,
			func() (*sharedPipe, error) { return vm.sharePipe(ctx, hostPath) },
			func(have *sharedPipe) (*sharedPipe, error) {
				if err := vm.alive(); err != nil || have != nil {
					return have, err
				}
				return vm.sharePipe(ctx, hostPath)
			})
		return err
	}, func(ctx context.Context) error { return vm.RemovePipe(ctx, hostPath) })
	if err != nil {
		return nil, fmt.Errorf("sharing pipe %s: %w", hostPath, err)
	}
	return &PipeMount{HostPath: hostPath, uvmPath: p.uvmPath, vm: vm}, nil
}

func (vm *UtilityVM) sharePipe(ctx context.Context, hostPath string) (*sharedPipe, error) {
	if err := vm.pipes.left.clear(ctx, hostPath); err != nil {
		return nil, err
	}
	p := &sharedPipe{attachment: &attachment{path: hcs.PipePath(hostPath)}}
	req := &hcsschema.ModifySettingRequest{RequestType: hcsschema.Add, ResourcePath: p.path}
	if vm.sharesSocket(hostPath) {
		if err := vm.socketRequest(p, req, hostPath); err != nil {
			return nil, err
		}
	}
	err := vm.modify(ctx, req)
	if err == nil {
		return p, nil
	}
	var half *halfDone
	if errors.As(err, &half) && half.host {
		vm.pipes.left.keep(hostPath, func(ctx context.Context) error { return vm.detach(ctx, p.attachment) })
	}
	return nil, err
}

// sharesSocket reports whether a pipe is a Unix socket that the guest has a
// request for. Any other is the engine's business alone.
func (vm *UtilityVM) sharesSocket(hostPath string) bool {
	_, caps := vm.Capabilities()
	return vm.os == "linux" && caps.MappedPipeSupported && strings.HasPrefix(hostPath, "/")
}

// socketRequest completes the request for a Unix socket: each has a port of
// the host and a place in the guest that no other has had.
func (vm *UtilityVM) socketRequest(p *sharedPipe, req *hcsschema.ModifySettingRequest, hostPath string) error {
	who, err := pipe.Stat(hostPath)
	if err != nil {
		return err
	}
	n := vm.pipes.sockets.Add(1) - 1
	if n >= hcs.BridgePort-hcs.PipePort {
		return ErrNoAvailableLocation
	}
	port := hcs.PipePort + n
	p.uvmPath = fmt.Sprintf("/run/pipes/%d", n)
	p.guest = &hcsschema.GuestRequest{
		RequestType:  hcsschema.Remove,
		ResourceType: hcsschema.ResourceMappedPipe,
		Settings:     hcsschema.LCOWMappedPipe{MountPath: p.uvmPath},
	}
	req.Settings = hcsschema.PipeSocket{Port: port}
	req.GuestRequest = &hcsschema.GuestRequest{
		RequestType:  hcsschema.Add,
		ResourceType: hcsschema.ResourceMappedPipe,
		Settings: hcsschema.LCOWMappedPipe{
			MountPath: p.uvmPath, LinkPath: path.Clean(hostPath), Port: port,
			Mode: who.Mode, UserID: who.UID, GroupID: who.GID,
		},
	}
	return nil
}

// RemovePipe gives one use of the pipe at hostPath back; the last one ends the
// sharing, and the connections of a Unix socket. If that fails it can be
// called again. A pipe that is not shared is [ErrNotAttached], unwrapped.
func (vm *UtilityVM) RemovePipe(ctx context.Context, hostPath string) error {
	return vm.carry(ctx, func(c *call) error {
		return vm.pipes.pipes.releaseFor(ctx, c, hostPath, func(p *sharedPipe) error {
			if p == nil {
				return nil
			}
			if err := vm.detach(ctx, p.attachment); err != nil {
				return fmt.Errorf("removing pipe %s: %w", hostPath, err)
			}
			return nil
		})
	}, nil)
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
