package hcstest

import (
	"errors"
	"io/fs"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

// A slot holds one disk; what is removed can be added again, and a file that
// was removed can be used elsewhere.
func testSCSI(e *env) {
	s := e.start()
	a, b := e.disk(s), e.disk(s)
	e.steps(s, []step{
		{removeDisk(1), hcs.ErrNotFound},
		{addDisk(1, a), nil},
		{addDisk(1, b), hcs.ErrAlreadyExists},
		{addDisk(1, a), hcs.ErrAlreadyExists},
		{addDisk(63, b), nil},
		{removeDisk(1), nil},
		{removeDisk(1), hcs.ErrNotFound},
		{addDisk(0, a), nil},
		{addDisk(1, e.disk(s)), nil},
		{removeDisk(63), nil},
		{removeDisk(0), nil},
		{removeDisk(1), nil},
	})
	e.running(s)
}

// Where persistent memory cannot be removed, Remove ends the guest's use only
// and the slot stays with its file. This is the one exception to "gone when
// Modify returns".
func testPMem(e *env) {
	if e.f.PMem == nil {
		e.Logf("not tested: the engine has no persistent memory")
		return
	}
	s := e.start()
	request := func(t hcsschema.RequestType, n int, d *hcsschema.VirtualPMemDevice) *hcsschema.ModifySettingRequest {
		r := &hcsschema.ModifySettingRequest{RequestType: t, ResourcePath: hcs.VPMemPath(n)}
		if d != nil {
			r.Settings = *d
		}
		return r
	}
	device := func() *hcsschema.VirtualPMemDevice {
		d := e.f.PMem(e)
		e.grant(s, d.HostPath)
		return &d
	}
	a, b := device(), device()
	var other error // of adding another file to a slot that had one
	if !e.f.Engine.Host().PMemRemovable {
		other = hcs.ErrAlreadyExists
	}
	e.steps(s, []step{
		{request(hcsschema.Remove, 1, nil), hcs.ErrNotFound},
		{request(hcsschema.Add, 1, a), nil},
		{request(hcsschema.Add, 1, b), hcs.ErrAlreadyExists},
		{request(hcsschema.Remove, 1, nil), nil},
		{request(hcsschema.Remove, 1, nil), hcs.ErrNotFound},
		{request(hcsschema.Add, 1, a), nil},
		{request(hcsschema.Remove, 1, nil), nil},
		{request(hcsschema.Add, 1, b), other},
		{request(hcsschema.Add, 0, b), nil},
	})
	e.running(s)
}

// What an engine does not know, it refuses; a request that failed has changed
// nothing.
func testModifyRefused(e *env) {
	s := e.start()
	disk := e.disk(s)
	missing := filepath.Join(e.TempDir(), "missing")
	type m = map[string]any
	for _, c := range []struct {
		name string
		req  *hcsschema.ModifySettingRequest
		want error // nil is any error
	}{
		{"unknown path", &hcsschema.ModifySettingRequest{RequestType: hcsschema.Add, ResourcePath: "VirtualMachine/Devices/Toaster/0", Settings: m{}}, hcs.ErrNotSupported},
		{"no path", &hcsschema.ModifySettingRequest{RequestType: hcsschema.Add}, hcs.ErrNotSupported},
		{"unknown request type", &hcsschema.ModifySettingRequest{RequestType: "Toast", ResourcePath: hcs.SCSIPath(0, 2), Settings: hcsschema.Attachment{Type: "VirtualDisk", Path: disk}}, hcs.ErrNotSupported},
		{"unknown member", &hcsschema.ModifySettingRequest{RequestType: hcsschema.Add, ResourcePath: hcs.SCSIPath(0, 2), Settings: m{"Type": "VirtualDisk", "Path": disk, "Toast": true}}, hcs.ErrNotSupported},
		{"missing file", addDisk(2, missing), fs.ErrNotExist},
		{"no such slot", addDisk(64, disk), nil},
		{"no such controller", &hcsschema.ModifySettingRequest{RequestType: hcsschema.Add, ResourcePath: hcs.SCSIPath(9, 0), Settings: hcsschema.Attachment{Type: "VirtualDisk", Path: disk}}, nil},
	} {
		err := s.Modify(e.Context(), c.req)
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			e.Errorf("%s: got error %v, want %v", c.name, err, c.want)
		}
	}
	e.steps(s, []step{{addDisk(2, disk), nil}, {removeDisk(2), nil}})
	e.running(s)
}

// A request whose context has ended changes nothing.
func testModifyCancelled(e *env) {
	s := e.start()
	disk := e.disk(s)
	ctx := cancelled(e)
	e.want(s.Modify(ctx, addDisk(0, disk)), ctx.Err(), "add")
	e.steps(s, []step{{addDisk(0, disk), nil}})
	e.want(s.Modify(ctx, removeDisk(0)), ctx.Err(), "remove")
	e.steps(s, []step{{addDisk(0, disk), hcs.ErrAlreadyExists}, {removeDisk(0), nil}})
}

// Of many requests for one slot, one wins.
func testModifySameSlot(e *env) {
	const n = 8
	s := e.start()
	disk := e.disk(s)
	race := func(req *hcsschema.ModifySettingRequest, lost error) {
		var won atomic.Int32
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() {
				switch err := s.Modify(e.Context(), req); {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, lost):
					e.Errorf("%s: got error %v, want %v", req.RequestType, err, lost)
				}
			})
		}
		wg.Wait()
		if w := won.Load(); w != 1 {
			e.Errorf("%s: %d of %d succeeded, want 1", req.RequestType, w, n)
		}
	}
	race(addDisk(5, disk), hcs.ErrAlreadyExists)
	race(removeDisk(5), hcs.ErrNotFound)
}

// Requests for different slots do not disturb each other, and all end when
// the system does.
func testModifyConcurrent(e *env) {
	const n, rounds = 4, 3
	s := e.start()
	var wg sync.WaitGroup
	work := func(times int, stop error) {
		for l := range n {
			disk := e.disk(s)
			wg.Go(func() {
				for i := 0; times == 0 || i < times; i++ {
					for _, req := range []*hcsschema.ModifySettingRequest{addDisk(l, disk), removeDisk(l)} {
						if err := s.Modify(e.Context(), req); stop != nil && errors.Is(err, stop) {
							return
						} else if err != nil {
							e.Errorf("%s %s: %v", req.RequestType, req.ResourcePath, err)
							return
						}
						if _, err := s.Properties(e.Context()); err != nil && (stop == nil || !errors.Is(err, stop)) {
							e.Errorf("properties: %v", err)
						}
					}
				}
			})
		}
	}
	work(rounds, nil)
	wg.Wait()
	work(0, hcs.ErrStopped)
	if err := s.Terminate(e.Context()); err != nil {
		e.Errorf("terminate: %v", err)
	}
	wg.Wait()
	e.stopped(s, hcs.ExitTerminated)
}
