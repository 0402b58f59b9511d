package computecore_test

import (
	"context"
	"sync"
	"testing"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcs/hcstest"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/engine/computecore"
	"github.com/byrevm/byre/test/wine/standin"
)

// A gate holds calls of an operation up until it is opened.
type gate struct {
	mu sync.Mutex
	op string
	in chan struct{} // gets a value when a call has come to it
	ok chan struct{} // closed to let it through
}

// hold has the calls of op wait, from the next one on.
func (g *gate) hold(op string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.op, g.in, g.ok = op, make(chan struct{}, 16), make(chan struct{})
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.op = ""
	close(g.ok)
}

func (g *gate) hook(_ context.Context, c hcstest.Call) error {
	g.mu.Lock()
	op, in, ok := g.op, g.in, g.ok
	g.mu.Unlock()
	if op == c.Op {
		in <- struct{}{}
		<-ok
	}
	return nil
}

// A lab is an engine on the stand-in.
type lab struct {
	*computecore.Engine
	t     *testing.T
	mem   *hcstest.Engine
	bench *standin.Bench
	gate  *gate
	guest *hcstest.Guest
}

func newLab(t *testing.T, script standin.Script, guest *hcstest.Guest) *lab {
	t.Helper()
	l := &lab{t: t, gate: new(gate), guest: guest}
	if guest == nil {
		l.guest = &hcstest.Guest{Program: hcstest.Sleep}
	}
	l.mem = hcstest.New(hcstest.Config{Boot: l.guest.Boot, Hook: l.gate.hook})
	l.bench = standin.Start(t, l.mem, script)
	l.Engine = l.bench.Engine(hcs.HostInfo{})
	hcstest.CheckResidue(hcstest.Wrap(t), func(hcstest.T) []string { return residue(l.mem, l.bench) })
	return l
}

// document is that of a system with a SCSI controller; extra is merged in.
func (l *lab) document(extra string) hcs.Document {
	l.t.Helper()
	doc, err := hcs.NewDocument(&hcsschema.ComputeSystem{
		SchemaVersion:                     hcsschema.SchemaV21(),
		ShouldTerminateOnLastHandleClosed: true,
		VirtualMachine:                    &hcsschema.VirtualMachine{Devices: &hcsschema.Devices{Scsi: map[string]hcsschema.Scsi{"0": {}}}},
	}, extra)
	if err != nil {
		l.t.Fatal(err)
	}
	return doc
}

// internal asks for the service's own connection to the guest.
const internal = `{"VirtualMachine":{"GuestConnection":{"UseVsock":true}}}`

// start makes a running system, which ends with the test.
func (l *lab) start(id, extra string) hcs.System {
	l.t.Helper()
	s, err := l.Create(l.t.Context(), id, l.document(extra))
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		if err := s.Close(); err != nil {
			l.t.Errorf("close: %v", err)
		}
	})
	if err := s.Start(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
	return s
}

func disk(t hcsschema.RequestType, path string) *hcsschema.ModifySettingRequest {
	r := &hcsschema.ModifySettingRequest{RequestType: t, ResourcePath: hcs.SCSIPath(0, 1)}
	if t == hcsschema.Add {
		r.Settings = hcsschema.Attachment{Type: hcsschema.AttachmentVirtualDisk, Path: path}
	}
	return r
}
