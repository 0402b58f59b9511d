package computecore

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/Microsoft/go-winio/pkg/guid"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/schema1"
)

// A Config says how an engine works. On Windows the zero value is right.
type Config struct {
	Service Service       // nil is computecore.dll
	Sockets Sockets       // nil is hvsock
	Host    hcs.HostInfo  // members that are zero are those of this host
	Timeout time.Duration // of a call whose context has no earlier end; 0 is 4 minutes
	Logger  *slog.Logger  // nil is slog.Default()
}

// An Engine makes systems by the Host Compute Service. It implements
// [hcs.Engine] and [hcs.Granter].
type Engine struct {
	service Service
	sockets Sockets
	host    func() hcs.HostInfo
	timeout time.Duration
	log     *slog.Logger
}

// New returns an engine. It looks at nothing yet; what this host lacks is
// Create's error.
func New(c Config) *Engine {
	e := &Engine{service: c.Service, sockets: c.Sockets, timeout: cmp.Or(c.Timeout, defaultTimeout), log: c.Logger}
	if e.log == nil {
		e.log = slog.Default()
	}
	if e.service == nil {
		e.service = hostService()
	}
	if e.sockets == nil {
		e.sockets = hostSockets()
	}
	e.host = sync.OnceValue(func() hcs.HostInfo { return e.describe(c.Host) })
	return e
}

// defaultMemoryMB is the memory of a system whose document gives no size.
const defaultMemoryMB = 1024

// describe completes what was configured about the host.
func (e *Engine) describe(h hcs.HostInfo) hcs.HostInfo {
	h.Build = cmp.Or(h.Build, hostBuild())
	if h.Processors == 0 {
		h.Processors = e.processors()
	}
	if h.BootFiles == nil {
		h.BootFiles = bootFolders()
	}
	h.DefaultMemoryMB = cmp.Or(h.DefaultMemoryMB, defaultMemoryMB)
	h.PMemRemovable, h.InternalConnection = true, true
	return h
}

// processors asks the service, which knows of all processor groups, and then
// the system.
func (e *Engine) processors() int {
	var p struct {
		Properties []struct{ LogicalProcessorCount int }
	}
	r := e.service.ServiceProperties(`{"PropertyTypes":["ProcessorTopology"]}`)
	if !r.Failed() && json.Unmarshal([]byte(r.Document), &p) == nil && len(p.Properties) > 0 && p.Properties[0].LogicalProcessorCount > 0 {
		return p.Properties[0].LogicalProcessorCount
	}
	return hostProcessors()
}

// Host implements [hcs.Engine].
func (e *Engine) Host() hcs.HostInfo { return e.host() }

// opened is a handle, or why there is none.
type opened struct {
	h Handle
	r Result
}

// Create implements [hcs.Engine].
func (e *Engine) Create(ctx context.Context, id string, doc hcs.Document) (hcs.System, error) {
	var cs hcsschema.ComputeSystem
	if err := json.Unmarshal(doc, &cs); err != nil {
		return nil, &hcs.Error{Op: "create", System: id, Err: fmt.Errorf("reading the document: %w", err)}
	}
	if cs.VirtualMachine == nil {
		return nil, &hcs.Error{Op: "create", System: id, Err: fmt.Errorf("%w: a document without VirtualMachine", hcs.ErrNotSupported)}
	}
	h, err := e.create(ctx, id, doc)
	if err != nil {
		return nil, err
	}
	s := newSystem(e, id, h)
	s.internal = cs.VirtualMachine.GuestConnection != nil
	if err := s.attach(ctx); err != nil {
		return nil, errors.Join(err, s.abort())
	}
	return s, nil
}

// create makes a system, of whatever kind the document is.
func (e *Engine) create(ctx context.Context, id string, doc hcs.Document) (Handle, error) {
	if err := ctx.Err(); err != nil {
		return 0, &hcs.Error{Op: "create", System: id, Err: err}
	}
	o, err := do(ctx, e.timeout, func() opened {
		h, r := e.service.CreateSystem(id, string(doc))
		return opened{h, r}
	}, func(o opened) { e.discard(id, o) })
	if err != nil {
		return 0, &hcs.Error{Op: "create", System: id, Err: err}
	}
	return o.h, o.r.failure("create", id, "")
}

// discard undoes a creation that ended after its caller had gone.
func (e *Engine) discard(id string, o opened) {
	if o.r.Failed() {
		return
	}
	r := e.service.CallSystem(CallTerminate, o.h, "")
	e.service.CloseSystem(o.h)
	e.log.Warn("system discarded that was created too late", "uvm", id, "err", r.failure("terminate", id, ""))
}

// Open returns a system that somebody else created; ctx limits the calls. The
// caller owns the handle and closes it, which terminates the system.
func (e *Engine) Open(ctx context.Context, id string) (*System, error) {
	if err := ctx.Err(); err != nil {
		return nil, &hcs.Error{Op: "open", System: id, Err: err}
	}
	o, err := do(ctx, e.timeout, func() opened {
		h, r := e.service.OpenSystem(id)
		return opened{h, r}
	}, func(o opened) {
		if !o.r.Failed() {
			e.service.CloseSystem(o.h)
		}
	})
	if err != nil {
		return nil, &hcs.Error{Op: "open", System: id, Err: err}
	}
	if err := o.r.failure("open", id, ""); err != nil {
		return nil, err
	}
	s := newSystem(e, id, o.h)
	if err := s.attach(ctx); err != nil {
		s.release()
		return nil, err
	}
	return s, nil
}

// Systems returns the systems of this host that the query is about; the zero
// query is about all.
func (e *Engine) Systems(ctx context.Context, query schema1.ComputeSystemQuery) ([]hcsschema.Properties, error) {
	fail := func(err error) error { return &hcs.Error{Op: "enumerate", Err: err} }
	if err := ctx.Err(); err != nil {
		return nil, fail(err)
	}
	q, err := json.Marshal(query)
	if err != nil {
		return nil, fail(err)
	}
	r, err := do(ctx, e.timeout, func() Result { return e.service.EnumerateSystems(string(q)) }, dropped)
	if err != nil {
		return nil, fail(err)
	}
	if err := r.failure("enumerate", "", ""); err != nil {
		return nil, err
	}
	var list []hcsschema.Properties
	if err := json.Unmarshal([]byte(r.Document), &list); err != nil {
		return nil, fail(fmt.Errorf("reading the answer: %w", err))
	}
	return list, nil
}

// GrantAccess implements [hcs.Granter].
func (e *Engine) GrantAccess(ctx context.Context, id, path string, to hcs.Access) error {
	const op = "grant-access"
	if err := ctx.Err(); err != nil {
		return &hcs.Error{Op: op, System: id, Path: path, Err: err}
	}
	r, err := do(ctx, e.timeout, func() Result {
		if to == hcs.AccessGroup {
			return e.service.GrantGroupAccess(path)
		}
		return e.service.GrantVMAccess(id, path)
	}, dropped)
	if err != nil {
		return &hcs.Error{Op: op, System: id, Path: path, Err: err}
	}
	return r.failure(op, id, path)
}

// runtimeID reads the id that the service gave a system.
func runtimeID(p *hcsschema.Properties) (guid.GUID, error) {
	g, err := guid.FromString(p.RuntimeId)
	if err != nil {
		return g, fmt.Errorf("runtime id %q: %w", p.RuntimeId, err)
	}
	return g, nil
}

var (
	_ hcs.Engine  = (*Engine)(nil)
	_ hcs.Granter = (*Engine)(nil)
)
