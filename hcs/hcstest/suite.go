package hcstest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

// A Fixture is what [TestEngine] needs to know of an engine.
type Fixture struct {
	Engine hcs.Engine

	// System returns what to create: a small system with the SCSI controller
	// "0" and, if PMem is set, room for two persistent-memory devices, with
	// nothing attached and no GuestConnection. It need not boot anything.
	System func(T) *hcsschema.ComputeSystem

	// Disk makes a disk image that can be attached to the controller.
	Disk func(T) string

	// PMem makes an image and says how it is attached as persistent memory;
	// nil if the engine has none.
	PMem func(T) hcsschema.VirtualPMemDevice

	// Folder makes a folder that can be shared with the guest; nil if the
	// engine shares none.
	Folder func(T) string

	// Socket makes a stream socket that somebody listens on and that can be
	// shared with the guest; nil if the engine shares none.
	Socket func(T) string

	// PCI says which PCI device of the host can be given to a system; nil if
	// there is none. NoPCI is one that the host does not have; nil if the
	// engine cannot know.
	PCI, NoPCI func(T) hcsschema.VirtualPciDevice

	// Refused are documents that the engine cannot honour: for the name of
	// the member that it must name, the JSON that is merged into the
	// document.
	Refused map[string]string

	// Ends are ways in which a running system can stop by itself.
	Ends map[string]End

	// GuestDial opens a connection from the guest of a running system to a
	// service of the host. Nil, for a fixture that boots no guest, is not
	// checked.
	GuestDial func(T, hcs.System, hcs.ServiceID) net.Conn

	// Residue lists what systems have on the host: processes, files, mounts.
	// There must not be more after a test than before it. Nil is not checked.
	Residue func(T) []string
}

// An End makes a running system stop.
type End struct {
	Do   func(T, hcs.System)
	Kind hcs.ExitKind
}

// waitLimit is how long the suite waits for what should happen at once. Under
// emulation on a busy host it may take a while.
const waitLimit = 60 * time.Second

// TestEngine checks that an engine keeps the contract of package hcs.
func TestEngine(t T, f Fixture) {
	s := &suite{f: f}
	for _, c := range []struct {
		name string
		test func(*env)
	}{
		{"Create", testCreate},
		{"CreateDuplicate", testCreateDuplicate},
		{"CreateRefused", testCreateRefused},
		{"CreateCancelled", testCreateCancelled},
		{"Start", testStart},
		{"Properties", testProperties},
		{"SCSI", testSCSI},
		{"PMem", testPMem},
		{"Plan9", testPlan9},
		{"Pipe", testPipe},
		{"PCI", testPCI},
		{"ModifyRefused", testModifyRefused},
		{"ModifyCancelled", testModifyCancelled},
		{"ModifySameSlot", testModifySameSlot},
		{"ModifyConcurrent", testModifyConcurrent},
		{"Listen", testListen},
		{"Dial", testDial},
		{"Connection", testConnection},
		{"Terminate", testTerminate},
		{"TerminateCreated", testTerminateCreated},
		{"TerminateConcurrent", testTerminateConcurrent},
		{"UseAfterStop", testUseAfterStop},
		{"Close", testClose},
		{"CloseCreated", testCloseCreated},
		{"Ends", testEnds},
	} {
		t.Run(c.name, func(t T) {
			e := &env{T: t, suite: s}
			if f.Residue != nil {
				CheckResidue(t, f.Residue) // looks after the systems are closed
			}
			c.test(e)
		})
	}
}

type suite struct {
	f Fixture
	n atomic.Int64
}

// An env is one test of the suite.
type env struct {
	T
	*suite
}

// id returns an id that no system has had.
func (e *env) id() string { return fmt.Sprintf("conformance-%d-%d", time.Now().UnixNano(), e.n.Add(1)) }

func (e *env) document(extra string) hcs.Document {
	e.Helper()
	doc, err := hcs.NewDocument(e.f.System(e), extra)
	if err != nil {
		e.Fatalf("document: %v", err)
	}
	return doc
}

func (e *env) create(id string) hcs.System {
	e.Helper()
	s, err := e.f.Engine.Create(e.Context(), id, e.document(""))
	if err != nil {
		e.Fatalf("create: %v", err)
	}
	e.Cleanup(func() { // must not depend on the test having got far
		if err := s.Close(); err != nil {
			e.Errorf("close: %v", err)
		}
	})
	return s
}

func (e *env) start() hcs.System {
	e.Helper()
	s := e.create(e.id())
	if err := s.Start(e.Context()); err != nil {
		e.Fatalf("start: %v", err)
	}
	return s
}

// want checks the error of what was just done.
func (e *env) want(err, want error, format string, args ...any) {
	e.Helper()
	if !errors.Is(err, want) {
		e.Errorf("%s: got error %v, want %v", fmt.Sprintf(format, args...), err, want)
	}
}

// stopped waits for the end of a system and checks why it ended.
func (e *env) stopped(s hcs.System, kind hcs.ExitKind) {
	e.Helper()
	select {
	case <-s.Done():
	case <-time.After(waitLimit):
		e.Fatalf("the system has not stopped after %v", waitLimit)
	}
	for range 2 { // it stays the same
		var x *hcs.Exit
		if err := s.Err(); !errors.As(err, &x) {
			e.Errorf("Err of a stopped system is %v, want an *hcs.Exit", err)
		} else if x.Kind != kind {
			e.Errorf("the system stopped because: %v, want: %v", x, kind)
		}
	}
}

func (e *env) running(s hcs.System) {
	e.Helper()
	select {
	case <-s.Done():
		e.Errorf("the system has stopped: %v", s.Err())
	default:
		if err := s.Err(); err != nil {
			e.Errorf("Err of a system that has not stopped is %v", err)
		}
	}
}

// grant lets a system use a file, where the engine wants to be told.
func (e *env) grant(s hcs.System, path string) {
	e.Helper()
	g, ok := e.f.Engine.(hcs.Granter)
	if !ok {
		return
	}
	for range 2 { // granting twice is no error
		if err := g.GrantAccess(e.Context(), s.ID(), path, hcs.AccessVM); err != nil {
			e.Fatalf("grant: %v", err)
		}
	}
}

func (e *env) disk(s hcs.System) string {
	e.Helper()
	d := e.f.Disk(e)
	e.grant(s, d)
	return d
}

// addDisk and removeDisk are requests for the slot l of controller 0.
func addDisk(l int, path string) *hcsschema.ModifySettingRequest {
	return &hcsschema.ModifySettingRequest{
		RequestType:  hcsschema.Add,
		ResourcePath: hcs.SCSIPath(0, l),
		Settings:     hcsschema.Attachment{Type: hcsschema.AttachmentVirtualDisk, Path: path, ReadOnly: true},
	}
}

func removeDisk(l int) *hcsschema.ModifySettingRequest {
	return &hcsschema.ModifySettingRequest{RequestType: hcsschema.Remove, ResourcePath: hcs.SCSIPath(0, l)}
}

// A step is a request and the error that it must end with.
type step struct {
	req  *hcsschema.ModifySettingRequest
	want error
}

func (e *env) steps(s hcs.System, steps []step) {
	e.Helper()
	for i, st := range steps {
		e.want(s.Modify(e.Context(), st.req), st.want, "step %d: %s %s", i, st.req.RequestType, st.req.ResourcePath)
	}
}

func cancelled(e *env) context.Context {
	ctx, cancel := context.WithCancel(e.Context())
	cancel()
	return ctx
}
