package hcstest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

// A probe is a T without package testing. It keeps the names of the tests
// that failed.
type probe struct {
	name    string
	ctx     context.Context
	failed  *sync.Map
	bad     atomic.Bool
	mu      sync.Mutex
	cleanup []func()
}

func (p *probe) Name() string             { return p.name }
func (p *probe) Helper()                  {}
func (p *probe) Context() context.Context { return p.ctx }
func (p *probe) Failed() bool             { return p.bad.Load() }
func (p *probe) Logf(string, ...any)      {}
func (p *probe) Errorf(format string, a ...any) {
	p.bad.Store(true)
	p.failed.Store(p.name, fmt.Sprintf(format, a...))
}
func (p *probe) Fatalf(format string, a ...any) { p.Errorf(format, a...); runtime.Goexit() }
func (p *probe) Cleanup(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cleanup = append(p.cleanup, f)
}

func (p *probe) TempDir() string {
	d, err := os.MkdirTemp("", "hcstest")
	if err != nil {
		p.Fatalf("%v", err)
	}
	p.Cleanup(func() { os.RemoveAll(d) })
	return d
}

func (p *probe) Run(name string, f func(T)) bool {
	ctx, cancel := context.WithCancel(p.ctx)
	sub := &probe{name: strings.TrimPrefix(p.name+"/"+name, "/"), ctx: ctx, failed: p.failed}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			cancel()
			for i := len(sub.cleanup) - 1; i >= 0; i-- {
				sub.cleanup[i]()
			}
		}()
		f(sub)
	}()
	<-done
	return !sub.Failed()
}

// A mutant is an engine with a defect.
type mutant struct {
	hcs.Engine
	create func(context.Context, string, hcs.Document) (hcs.System, error)
	system func(*mutantSystem)
}

type mutantSystem struct {
	hcs.System
	start      func(context.Context) error
	modify     func(context.Context, *hcsschema.ModifySettingRequest) error
	properties func(context.Context, ...hcsschema.PropertyType) (*hcsschema.Properties, error)
	listen     func(hcs.ServiceID) (net.Listener, error)
	err        func() error
	close      func() error
}

func (m *mutant) Create(ctx context.Context, id string, doc hcs.Document) (hcs.System, error) {
	create := m.create
	if create == nil {
		create = m.Engine.Create
	}
	s, err := create(ctx, id, doc)
	if err != nil {
		return nil, err
	}
	ms := &mutantSystem{System: s, start: s.Start, modify: s.Modify, properties: s.Properties, listen: s.Listen, err: s.Err, close: s.Close}
	if m.system != nil {
		m.system(ms)
	}
	return ms, nil
}

func (m *mutantSystem) Start(ctx context.Context) error { return m.start(ctx) }
func (m *mutantSystem) Modify(ctx context.Context, r *hcsschema.ModifySettingRequest) error {
	return m.modify(ctx, r)
}
func (m *mutantSystem) Properties(ctx context.Context, t ...hcsschema.PropertyType) (*hcsschema.Properties, error) {
	return m.properties(ctx, t...)
}
func (m *mutantSystem) Listen(s hcs.ServiceID) (net.Listener, error) { return m.listen(s) }
func (m *mutantSystem) Err() error                                   { return m.err() }
func (m *mutantSystem) Close() error                                 { return m.close() }

// The suite notices defects, in the test that is about them.
func TestMutants(t *testing.T) {
	type request = hcsschema.ModifySettingRequest
	defer func(d time.Duration) { residueLimit = d }(residueLimit)
	residueLimit = 20 * time.Millisecond
	forgive := func(err, what error) error {
		if errors.Is(err, what) {
			return nil
		}
		return err
	}
	for name, c := range map[string]struct {
		fails  string
		mutate func(*mutant)
	}{
		"takes an id twice": {"CreateDuplicate", func(m *mutant) {
			var n atomic.Int64
			m.create = func(ctx context.Context, id string, doc hcs.Document) (hcs.System, error) {
				s, err := m.Engine.Create(ctx, id, doc)
				if errors.Is(err, hcs.ErrAlreadyExists) {
					return m.Engine.Create(ctx, fmt.Sprint(id, n.Add(1)), doc)
				}
				return s, err
			}
		}},
		"ignores members": {"CreateRefused", func(m *mutant) {
			m.create = func(ctx context.Context, id string, doc hcs.Document) (hcs.System, error) {
				return m.Engine.Create(ctx, id, hcs.Document(strings.ReplaceAll(string(doc), `"Toaster"`, `"Keyboard"`)))
			}
		}},
		"creates without context": {"CreateCancelled", func(m *mutant) {
			m.create = func(ctx context.Context, id string, doc hcs.Document) (hcs.System, error) {
				return m.Engine.Create(context.WithoutCancel(ctx), id, doc)
			}
		}},
		"starts twice": {"Start", func(m *mutant) {
			m.system = func(s *mutantSystem) {
				s.start = func(ctx context.Context) error { return forgive(s.System.Start(ctx), hcs.ErrInvalidState) }
			}
		}},
		"has no properties": {"Properties", func(m *mutant) {
			m.system = func(s *mutantSystem) {
				s.properties = func(ctx context.Context, _ ...hcsschema.PropertyType) (*hcsschema.Properties, error) {
					return s.System.Properties(ctx)
				}
			}
		}},
		"adds to an occupied slot": {"SCSI", func(m *mutant) {
			m.system = func(s *mutantSystem) {
				s.modify = func(ctx context.Context, r *request) error {
					return forgive(s.System.Modify(ctx, r), hcs.ErrAlreadyExists)
				}
			}
		}},
		"removes from an empty slot": {"PMem", func(m *mutant) {
			m.system = func(s *mutantSystem) {
				s.modify = func(ctx context.Context, r *request) error { return forgive(s.System.Modify(ctx, r), hcs.ErrNotFound) }
			}
		}},
		"shares a socket that is not there": {"Pipe", func(m *mutant) {
			m.system = func(s *mutantSystem) {
				s.modify = func(ctx context.Context, r *request) error { return forgive(s.System.Modify(ctx, r), fs.ErrNotExist) }
			}
		}},
		"has places for devices without end": {"PCI", func(m *mutant) {
			m.system = func(s *mutantSystem) {
				s.modify = func(ctx context.Context, r *request) error { return forgive(s.System.Modify(ctx, r), hcs.ErrNotFound) }
			}
		}},
		"does what it does not know": {"ModifyRefused", func(m *mutant) {
			m.system = func(s *mutantSystem) {
				s.modify = func(ctx context.Context, r *request) error {
					return forgive(s.System.Modify(ctx, r), hcs.ErrNotSupported)
				}
			}
		}},
		"modifies without context": {"ModifyCancelled", func(m *mutant) {
			m.system = func(s *mutantSystem) {
				s.modify = func(ctx context.Context, r *request) error {
					return s.System.Modify(context.WithoutCancel(ctx), r)
				}
			}
		}},
		"lets everybody win": {"ModifySameSlot", func(m *mutant) {
			m.system = func(s *mutantSystem) {
				s.modify = func(ctx context.Context, r *request) error {
					return forgive(s.System.Modify(ctx, r), hcs.ErrAlreadyExists)
				}
			}
		}},
		"listens twice": {"Listen", func(m *mutant) {
			m.system = func(s *mutantSystem) {
				s.listen = func(id hcs.ServiceID) (net.Listener, error) {
					l, err := s.System.Listen(id)
					if errors.Is(err, hcs.ErrAlreadyExists) {
						return net.Listen("tcp", "127.0.0.1:0")
					}
					return l, err
				}
			}
		}},
		"does not know why it ended": {"Terminate", func(m *mutant) {
			m.system = func(s *mutantSystem) {
				s.err = func() error {
					if s.System.Err() == nil {
						return nil
					}
					return &hcs.Exit{Kind: hcs.ExitGuest}
				}
			}
		}},
		"answers after its end": {"UseAfterStop", func(m *mutant) {
			m.system = func(s *mutantSystem) {
				s.properties = func(ctx context.Context, p ...hcsschema.PropertyType) (*hcsschema.Properties, error) {
					a, err := s.System.Properties(ctx, p...)
					if errors.Is(err, hcs.ErrStopped) {
						return &hcsschema.Properties{}, nil
					}
					return a, err
				}
			}
		}},
		"leaves something": {"CloseCreated", func(m *mutant) {
			m.system = func(s *mutantSystem) { s.close = func() error { return s.Terminate(context.Background()) } }
		}},
	} {
		t.Run(name, func(t *testing.T) {
			e := New(Config{Host: hcs.HostInfo{PCIDevices: 4}, Strict: true, CheckFiles: true})
			f := fixture(e)
			m := &mutant{Engine: e}
			c.mutate(m)
			f.Engine = m
			f.Ends = nil
			failed := new(sync.Map)
			TestEngine(&probe{ctx: t.Context(), failed: failed}, f)
			if _, ok := failed.Load(c.fails); !ok {
				found := false
				failed.Range(func(k, _ any) bool {
					found = found || strings.HasPrefix(k.(string), c.fails+"/")
					return !found
				})
				if !found {
					t.Errorf("%s passed", c.fails)
				}
			}
		})
	}
	failed := new(sync.Map)
	TestEngine(&probe{ctx: t.Context(), failed: failed}, fixture(New(Config{Host: hcs.HostInfo{PCIDevices: 4}, Strict: true, CheckFiles: true})))
	failed.Range(func(k, v any) bool {
		t.Errorf("%v failed without a defect: %v", k, v)
		return true
	})
}
