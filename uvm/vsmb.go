package uvm

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/byrevm/byre/hcsschema"
)

// vsmbPrefix is where a Windows guest finds the shares of its host.
const vsmbPrefix = `\\?\VMSMB\VSMB-{dcc079ae-60ba-4d07-847c-3493609c0870}\`

// A VSMBShare is one use of a folder or file of the host that a Windows guest
// can open.
type VSMBShare struct {
	// HostPath is the folder or file on the host.
	HostPath string

	vm      *UtilityVM
	key     vsmbKey
	file    string
	uvmPath string
	release release
}

// UVMPath returns where the guest finds what HostPath is.
func (vsmb *VSMBShare) UVMPath() string { return vsmb.uvmPath }

// Release gives this use of the share back, whether HostPath still exists or
// not. If it fails it can be called again; once it has succeeded it does
// nothing.
func (vsmb *VSMBShare) Release(ctx context.Context) error {
	return vsmb.release.do(func() error { return vsmb.vm.dropVSMB(ctx, vsmb.key, vsmb.file) })
}

// AddVSMB shares the folder or file at hostPath with a Windows guest. options
// is not changed or kept; nil is a share that can be written to. guestRequest
// is not used.
//
// What is shared already is counted: each AddVSMB is balanced by one Release
// or one [UtilityVM.RemoveVSMB]. Only what was shared in the same way is
// shared again, read-only or not, restricted to some files or not; the other
// options are those of the first. A file is shared by itself: the guest sees
// of its folder the files that are shared, as long as they are, and no others.
//
// The error of a path that cannot be looked at is the host's. A Linux guest
// has no such shares: [hcs.ErrNotSupported]. On error nothing is shared.
func (vm *UtilityVM) AddVSMB(ctx context.Context, hostPath string, guestRequest any, options *hcsschema.VirtualSmbShareOptions) (*VSMBShare, error) {
	if vm.os != "windows" {
		return nil, errNotSupported
	}
	fi, err := os.Stat(hostPath)
	if err != nil {
		return nil, err
	}
	var o hcsschema.VirtualSmbShareOptions
	if options != nil {
		o = *options
	}
	k, file := vsmbKey{path: filepath.Clean(hostPath)}, ""
	if !fi.IsDir() {
		file = k.path
		k.path, k.files = filepath.Dir(k.path), true
		o.RestrictFileAccess, o.SingleFileMapping = true, true
	}
	k.readOnly, k.restricted = o.ReadOnly, o.RestrictFileAccess
	s, err := vm.vsmb.shares.acquire(ctx, k,
		func() (*vsmbShare, error) { return vm.shareVSMB(ctx, k, file, hostPath, o) },
		func(have *vsmbShare) (*vsmbShare, error) { return have, vm.allowVSMB(ctx, k, have, file, hostPath, o) })
	if err != nil {
		return nil, err
	}
	return &VSMBShare{HostPath: hostPath, vm: vm, key: k, file: file, uvmPath: s.path(file)}, nil
}

// RemoveVSMB gives one use of the share of hostPath back, whether it still
// exists or not; the last one ends the sharing. If that fails it can be called
// again. Of a path that is shared both read-only and not the read-only share
// is given back; [VSMBShare.Release] tells them apart. A path that is not
// shared is [ErrNotAttached], unwrapped.
func (vm *UtilityVM) RemoveVSMB(ctx context.Context, hostPath string) error {
	if vm.os != "windows" {
		return errNotSupported
	}
	for _, c := range vsmbKeys(hostPath) {
		if err := vm.dropVSMB(ctx, c.key, c.file); !errors.Is(err, ErrNotAttached) {
			return err
		}
	}
	return ErrNotAttached
}

// GetVSMBUvmPath returns where the guest finds what hostPath is: in the
// read-only share, if it is shared both read-only and not;
// [VSMBShare.UVMPath] tells them apart. A path that is not shared is
// [ErrNotAttached], unwrapped.
func (vm *UtilityVM) GetVSMBUvmPath(ctx context.Context, hostPath string) (string, error) {
	if vm.os != "windows" {
		return "", errNotSupported
	}
	if hostPath == "" {
		return "", errors.New("no hostPath passed to GetVSMBUvmPath")
	}
	for _, c := range vsmbKeys(hostPath) {
		var path string
		err := vm.vsmb.shares.use(ctx, c.key, func(s *vsmbShare) error {
			if c.file != "" && s.uses[c.file] == 0 {
				return ErrNotAttached
			}
			path = s.path(c.file)
			return nil
		})
		if !errors.Is(err, ErrNotAttached) {
			return path, err
		}
	}
	return "", ErrNotAttached
}
