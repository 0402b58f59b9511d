package hcstest

import (
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
