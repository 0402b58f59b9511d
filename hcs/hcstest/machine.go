package hcstest

import (
	"context"
	"encoding/json"
	"net"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

// A Machine is a running system as the software in it sees it.
type Machine struct {
	system *System
	ctx    context.Context // ends when the system stops
}

// Context ends when the machine stops.
func (m *Machine) Context() context.Context { return m.ctx }

// ID returns the id of the system.
func (m *Machine) ID() string { return m.system.id }

// Document returns what the system was created from. It must not be changed.
func (m *Machine) Document() *hcsschema.ComputeSystem { return m.system.doc }

// OS returns "windows" if the document is one for a Windows guest (it has
// SMB shares), and "linux" otherwise.
func (m *Machine) OS() string {
	if d := m.system.doc.VirtualMachine.Devices; d != nil && d.VirtualSmb != nil {
		return "windows"
	}
	return "linux"
}

// Dial connects to a service of the host.
func (m *Machine) Dial(service hcs.ServiceID) (net.Conn, error) {
	return m.system.net.dial(m.ctx, hostSide, service)
}

// Listen accepts what the host opens to a service of the guest.
func (m *Machine) Listen(service hcs.ServiceID) (net.Listener, error) {
	return m.system.net.listen(guestSide, service)
}

// Attached reports whether a device is in the slot of a resource path.
func (m *Machine) Attached(path string) bool { return m.system.devices.has(path) }

// Exit stops the machine.
func (m *Machine) Exit(e *hcs.Exit) { m.system.Exit(e) }

// Go runs f in a goroutine that Close of the system waits for. f returns when
// Context ends. Call it only from what the machine runs.
func (m *Machine) Go(f func()) { m.system.wg.Go(f) }

// Note adds a call to those of the engine.
func (m *Machine) Note(op string, doc json.RawMessage) {
	m.system.e.rec.note(Call{Op: op, System: m.system.id, Document: doc})
}

// Ask asks the engine's hook about a call that was noted; an error is how the
// call is to fail.
func (m *Machine) Ask(ctx context.Context, op string, doc json.RawMessage) error {
	return m.system.e.rec.ask(ctx, Call{Op: op, System: m.system.id, Document: doc})
}
