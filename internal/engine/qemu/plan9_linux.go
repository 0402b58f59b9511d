package qemu

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/hostfs"
	"github.com/byrevm/byre/internal/p9"
	"github.com/byrevm/byre/internal/virtiofs"
)

// folders are the folders that a system shares with its guest. Each is to be
// had in two ways: by the device of the machine, and by 9P from the server that
// the guest reaches at [hcs.Plan9Port] once there has been a share. A guest
// without a driver for the device, and a share whose name no file can have, do
// with the second.
type folders struct {
	device *virtiofs.Server // nil without one; set by launch
	files  *hostfs.Files    // of both

	mu     sync.Mutex // guards the rest
	server *p9.Server // nil before the first share
	closed bool
}

// serve returns the server, which listens.
func (f *folders) serve(s *system) (*p9.Server, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, hcs.ErrStopped
	}
	if f.server != nil {
		return f.server, nil
	}
	l, err := s.vsock.Listen(hcs.Plan9Port)
	if err != nil {
		return nil, fmt.Errorf("listening for the guest's file systems: %w", err)
	}
	server := p9.NewServer(p9.Config{Logger: s.log, Files: f.files})
	if !s.background(func() { server.Serve(context.Background(), l) }) { // ends with the server or the VM
		l.Close()
		return nil, hcs.ErrStopped
	}
	f.server = server
	return server, nil
}

func (f *folders) close() {
	f.mu.Lock()
	f.closed = true
	server := f.server
	f.mu.Unlock()
	if f.device != nil {
		f.device.Close()
	}
	if server != nil {
		server.Close()
	}
}

// A folder is a share of a folder of the host.
type folder struct {
	share p9.Share
}

// shareRequest reads a request for the list of shares, whose path does not say
// which: the settings of a Remove do.
func shareRequest(req *hcsschema.ModifySettingRequest) (attachment, error) {
	a := attachment{path: hcs.Path{Resource: hcs.ResourcePlan9}, share: &hcsschema.Plan9Share{}}
	switch req.RequestType {
	case hcsschema.Add, hcsschema.Remove:
	default:
		return a, fmt.Errorf("%w: request type %q", hcs.ErrNotSupported, req.RequestType)
	}
	if err := hcs.Decode(req.Settings, a.share); err != nil {
		return a, err
	}
	if a.path.Name = a.share.Name; a.path.Name == "" {
		return a, errors.New("a share has no Name")
	}
	if req.RequestType == hcsschema.Add {
		_, err := newFolder(a.share)
		return a, err
	}
	return a, nil
}

// knownFlags are the flags of a share that are honoured: files have the
// metadata of Linux, and names that differ in case differ, with and without.
const knownFlags = hcsschema.Plan9FlagReadOnly | hcsschema.Plan9FlagLinuxMetadata |
	hcsschema.Plan9FlagCaseSensitive | hcsschema.Plan9FlagRestrictFileAccess

// newFolder reads the settings of a share, and refuses what cannot be had.
func newFolder(sh *hcsschema.Plan9Share) (*folder, error) {
	restrict := sh.Flags&hcsschema.Plan9FlagRestrictFileAccess != 0
	switch {
	case sh.Flags&^knownFlags != 0:
		return nil, fmt.Errorf("%w: Flags %#x of a share", hcs.ErrNotSupported, sh.Flags&^knownFlags)
	case sh.UseShareRootIdentity:
		return nil, fmt.Errorf("%w: member UseShareRootIdentity of a share", hcs.ErrNotSupported)
	case sh.Port != 0 && uint32(sh.Port) != hcs.Plan9Port:
		return nil, fmt.Errorf("%w: Port %d of a share: only %d", hcs.ErrNotSupported, sh.Port, hcs.Plan9Port)
	case len(sh.AllowedFiles) > 0 && !restrict:
		return nil, fmt.Errorf("%w: member AllowedFiles of a share that is not restricted to them", hcs.ErrNotSupported)
	case sh.Path == "":
		return nil, errors.New("a share has no Path")
	}
	f := &folder{p9.Share{
		Name: sh.AccessName, Path: sh.Path,
		ReadOnly: sh.ReadOnly || sh.Flags&hcsschema.Plan9FlagReadOnly != 0,
	}}
	if f.share.Name == "" {
		f.share.Name = sh.Name
	}
	if restrict {
		f.share.AllowedNames = append([]string{}, sh.AllowedFiles...)
	}
	return f, nil
}

func (f *folder) is(device) bool { return false } // never kept
func (f *folder) writes() bool   { return false } // this process does, not QEMU
func (f *folder) close()         {}

func (f *folder) add(_ context.Context, s *system) error {
	server, err := s.folders.serve(s)
	if err != nil {
		return err
	}
	if err := server.Add(f.share); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %w", hcs.ErrAlreadyExists, err)
	} else if err != nil {
		return err
	}
	if s.folders.device == nil || hostfs.CheckName(f.share.Name) != nil {
		return nil
	}
	if err := s.folders.device.Add(f.share); err != nil {
		return errors.Join(err, server.Remove(f.share.Name))
	}
	return nil
}

func (f *folder) remove(_ context.Context, s *system) (kept bool, err error) {
	server, err := s.folders.serve(s)
	if err != nil {
		return false, err
	}
	if s.folders.device != nil {
		// The name is taken until it is the other server's no more.
		if err := s.folders.device.Remove(f.share.Name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return false, server.Remove(f.share.Name)
}
