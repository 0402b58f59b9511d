package hcstest

import (
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

// The shares are one list: the settings say which is meant, by its name. One
// folder can be shared under many names.
func testPlan9(e *env) {
	if e.f.Folder == nil {
		e.Logf("not tested: the engine shares no folders")
		return
	}
	s := e.start()
	folder := e.f.Folder(e)
	e.grant(s, folder)
	request := func(t hcsschema.RequestType, name, path string, flags int32) *hcsschema.ModifySettingRequest {
		return &hcsschema.ModifySettingRequest{RequestType: t, ResourcePath: hcs.PathPlan9, Settings: hcsschema.Plan9Share{
			Name: name, AccessName: name, Path: path, Port: int32(hcs.Plan9Port), Flags: flags,
		}}
	}
	add := func(name string) *hcsschema.ModifySettingRequest {
		return request(hcsschema.Add, name, folder, hcsschema.Plan9FlagLinuxMetadata)
	}
	remove := func(name string) *hcsschema.ModifySettingRequest { return request(hcsschema.Remove, name, "", 0) }
	e.steps(s, []step{
		{remove("a"), hcs.ErrNotFound},
		{add("a"), nil},
		{add("a"), hcs.ErrAlreadyExists},
		{request(hcsschema.Add, "b", filepath.Join(folder, "missing"), hcsschema.Plan9FlagLinuxMetadata), fs.ErrNotExist},
		{remove("b"), hcs.ErrNotFound},
		{add("b"), nil},
		{remove("a"), nil},
		{remove("a"), hcs.ErrNotFound},
		{add("a"), nil},
	})
	e.running(s)
}

// A socket of the host is shared once by its path, and as often as one likes
// after that was taken back. Two that are shared have a port each.
func testPipe(e *env) {
	if e.f.Socket == nil {
		e.Logf("not tested: the engine shares no sockets")
		return
	}
	s := e.start()
	socket := func() string {
		p := e.f.Socket(e)
		e.grant(s, p)
		return p
	}
	a, b := socket(), socket()
	add := func(path string, n uint32) *hcsschema.ModifySettingRequest {
		return &hcsschema.ModifySettingRequest{RequestType: hcsschema.Add, ResourcePath: hcs.PipePath(path), Settings: hcsschema.PipeSocket{Port: hcs.PipePort + n}}
	}
	remove := func(path string) *hcsschema.ModifySettingRequest {
		return &hcsschema.ModifySettingRequest{RequestType: hcsschema.Remove, ResourcePath: hcs.PipePath(path)}
	}
	missing := filepath.Join(e.TempDir(), "missing")
	e.steps(s, []step{
		{remove(a), hcs.ErrNotFound},
		{add(a, 1), nil},
		{add(a, 2), hcs.ErrAlreadyExists},
		{add(missing, 2), fs.ErrNotExist},
		{remove(missing), hcs.ErrNotFound},
		{add(b, 2), nil},
		{remove(a), nil},
		{remove(a), hcs.ErrNotFound},
		{add(a, 1), nil},
	})
	e.running(s)
}

// A PCI device is known by a GUID whose last byte is its slot. A slot that the
// system does not have is told before anything is touched.
func testPCI(e *env) {
	s := e.start()
	request := func(t hcsschema.RequestType, slot int, d hcsschema.VirtualPciDevice) *hcsschema.ModifySettingRequest {
		r := &hcsschema.ModifySettingRequest{RequestType: t, ResourcePath: hcs.PCIPath(fmt.Sprintf("6f9a1c52-7f4e-4d0e-8b3a-0d1b2c3d4e%02x", slot))}
		if t == hcsschema.Add {
			r.Settings = d
		}
		return r
	}
	remove := func(slot int) *hcsschema.ModifySettingRequest {
		return request(hcsschema.Remove, slot, hcsschema.VirtualPciDevice{})
	}
	var device hcsschema.VirtualPciDevice // as good as any where it gets nowhere
	if e.f.NoPCI != nil {
		device = e.f.NoPCI(e)
		e.steps(s, []step{
			{request(hcsschema.Add, 0, device), hcs.ErrNotFound},
			{remove(0), hcs.ErrNotFound},
		})
	}
	if e.f.PCI != nil {
		device = e.f.PCI(e)
		e.steps(s, []step{
			{remove(0), hcs.ErrNotFound},
			{request(hcsschema.Add, 0, device), nil},
			{request(hcsschema.Add, 0, device), hcs.ErrAlreadyExists},
			{remove(0), nil},
			{remove(0), hcs.ErrNotFound},
			{request(hcsschema.Add, 0, device), nil},
			{remove(0), nil},
		})
	}
	if n := e.f.Engine.Host().PCIDevices; n > 0 {
		e.steps(s, []step{
			{request(hcsschema.Add, n, device), hcs.ErrNotFound},
			{remove(n), hcs.ErrNotFound},
		})
	}
	e.running(s)
}
