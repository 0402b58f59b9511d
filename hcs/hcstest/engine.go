package hcstest

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"sync"

	"github.com/Microsoft/go-winio/pkg/guid"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/schema1"
)

// A Config says how an [Engine] behaves.
type Config struct {
	// Host is what the engine says of its host. Zero members are build 19041,
	// 2 processors and 1024 MiB; InternalConnection is always set.
	Host hcs.HostInfo

	// Boot is what a system runs when it has started, in a goroutine of its
	// own: usually [Guest.Boot]. It returns when the machine's context ends.
	// Nil runs nothing.
	Boot func(*Machine)

	// Hook is called before every call takes effect; an error fails the call
	// with it. It may block. [FailNth] makes one.
	Hook func(context.Context, Call) error

	// Strict refuses documents with members that package hcsschema lacks or
	// has with another type. Without it they are recorded, and have no effect.
	Strict bool

	// CheckFiles fails where a file of the host does not exist.
	CheckFiles bool

	// Capabilities is what Properties says of the guest where the engine
	// itself has no connection to it; nil is all of them.
	Capabilities *schema1.GuestDefinedCapabilities

	// Properties may change what Properties answers.
	Properties func(id string, p *hcsschema.Properties)
}

// An Engine keeps its systems in memory. It implements [hcs.Engine] and
// [hcs.Granter]; its systems implement [hcs.Processes] and [hcs.Hosted].
type Engine struct {
	config Config
	rec    recorder

	mu      sync.Mutex
	systems map[string]*System // until they are closed
}

// New returns an engine.
func New(c Config) *Engine {
	c.Host.Build = cmp.Or(c.Host.Build, 19041)
	c.Host.Processors = cmp.Or(c.Host.Processors, 2)
	c.Host.DefaultMemoryMB = cmp.Or(c.Host.DefaultMemoryMB, 1024)
	c.Host.InternalConnection = true
	return &Engine{config: c, rec: recorder{hook: c.Hook}, systems: make(map[string]*System)}
}

// Host implements [hcs.Engine].
func (e *Engine) Host() hcs.HostInfo { return e.config.Host }

// Calls returns what has reached the engine and its guests so far.
func (e *Engine) Calls() []Call { return e.rec.list() }

// System returns the system with this id that has not been closed, or nil.
func (e *Engine) System(id string) *System {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.systems[id]
}

// Systems returns how many systems have not been closed.
func (e *Engine) Systems() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.systems)
}

// Create implements [hcs.Engine].
func (e *Engine) Create(ctx context.Context, id string, doc hcs.Document) (hcs.System, error) {
	var s *System
	err := e.rec.do(ctx, Call{Op: OpCreate, System: id}, doc, func() (err error) {
		s, err = e.create(ctx, id, doc)
		return err
	})
	if err == nil {
		if err = e.rec.do(ctx, Call{Op: OpCreated, System: id}, nil, func() error { return nil }); err != nil {
			s.Terminate(context.WithoutCancel(ctx))
			s.remove()
		}
	}
	if err != nil {
		return nil, &hcs.Error{Op: OpCreate, System: id, Err: err}
	}
	return s, nil
}

func (e *Engine) create(ctx context.Context, id string, doc hcs.Document) (*System, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	cs := new(hcsschema.ComputeSystem)
	if err := e.decode(doc, cs); err != nil {
		return nil, err
	}
	if cs.VirtualMachine == nil {
		return nil, fmt.Errorf("%w: a document without VirtualMachine", hcs.ErrNotSupported)
	}
	devices, err := e.newDevices(cs)
	if err != nil {
		return nil, err
	}
	runtimeID, err := guid.NewV4()
	if err != nil {
		return nil, err
	}
	s := newSystem(e, id, cs, runtimeID, devices)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.systems[id] != nil {
		return nil, hcs.ErrAlreadyExists
	}
	e.systems[id] = s
	return s, nil
}

// GrantAccess implements [hcs.Granter].
func (e *Engine) GrantAccess(ctx context.Context, id, path string, to hcs.Access) error {
	err := e.rec.do(ctx, Call{Op: OpGrantAccess, System: id, Path: path}, to, func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return e.checkFile(path)
	})
	if err != nil {
		return &hcs.Error{Op: OpGrantAccess, System: id, Path: path, Err: err}
	}
	return nil
}

func (e *Engine) checkFile(path string) error {
	if !e.config.CheckFiles {
		return nil
	}
	_, err := os.Stat(path)
	return err
}
