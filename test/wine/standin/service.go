package standin

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"sync"

	"github.com/byrevm/byre/cow"
	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcs/hcstest"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/engine/computecore"
)

// A Service is the service in memory. It implements [computecore.Service] and
// [computecore.Sockets].
type Service struct {
	engine *hcstest.Engine

	mu      sync.Mutex
	last    computecore.Handle
	objects map[computecore.Handle]*object
	wg      sync.WaitGroup // of what watches and copies
}

// An object is what a handle stands for: one of the three is set.
type object struct {
	system    *hcstest.System
	container cow.Container
	process   *process

	mu      sync.Mutex
	notify  func(computecore.Event)
	early   []computecore.Event // before notify was set: the service keeps them
	created bool                // not opened: this handle owns the system
	closed  chan struct{}       // closed with the handle
}

// New returns a service whose systems are those of engine.
func New(engine *hcstest.Engine) *Service {
	return &Service{engine: engine, objects: make(map[computecore.Handle]*object)}
}

// Handles returns how many handles are open.
func (s *Service) Handles() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.objects)
}

func (s *Service) add(o *object) computecore.Handle {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	s.objects[s.last] = o
	o.closed = make(chan struct{})
	return s.last
}

func (s *Service) remove(h computecore.Handle) *object {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[h]
	delete(s.objects, h)
	if o != nil {
		close(o.closed)
	}
	return o
}

// object returns what a handle stands for, nil if it is not open.
func (s *Service) object(h computecore.Handle) *object {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects[h]
}

func (o *object) event(kind uint32, document any) {
	b, err := json.Marshal(document)
	if err != nil {
		panic(err)
	}
	ev := computecore.Event{Type: kind, Document: string(b)}
	o.mu.Lock()
	f := o.notify
	if f == nil {
		o.early = append(o.early, ev)
	}
	o.mu.Unlock()
	if f != nil {
		f(ev)
	}
}

// listen sets the receiver of events, which gets those that were early.
func (o *object) listen(f func(computecore.Event)) {
	o.mu.Lock()
	o.notify = f
	early := o.early
	o.early = nil
	o.mu.Unlock()
	for _, ev := range early {
		f(ev)
	}
}

// CreateSystem implements [computecore.Service]: a virtual machine, or a
// container in one.
func (s *Service) CreateSystem(id, document string) (computecore.Handle, computecore.Result) {
	ctx := context.Background()
	var hosted struct{ HostingSystemId string }
	if err := json.Unmarshal([]byte(document), &hosted); err != nil {
		return 0, failed(codeInvalidJSON, err)
	}
	o := &object{created: true}
	if hosted.HostingSystemId != "" {
		sys := s.engine.System(hosted.HostingSystemId)
		if sys == nil {
			return 0, failed(codeSystemNotFound, hcs.ErrNotFound)
		}
		c, err := sys.CreateHosted(ctx, id, hcs.Document(document))
		if err != nil {
			return 0, resultOf(err, true)
		}
		o.container = c
	} else {
		sys, err := s.engine.Create(ctx, id, hcs.Document(document))
		if err != nil {
			return 0, resultOf(err, true)
		}
		o.system = sys.(*hcstest.System)
	}
	h := s.add(o)
	s.wg.Go(func() { s.watch(o) })
	return h, computecore.Result{}
}

// watch reports the end of a system or container.
func (s *Service) watch(o *object) {
	if o.container != nil {
		ended := make(chan struct{})
		s.wg.Go(func() { // Close of the container ends it
			_ = o.container.Wait()
			close(ended)
		})
		select {
		case <-ended:
			o.event(computecore.EventSystemExited, exitStatus{ExitType: "GracefulExit"})
		case <-o.closed:
		}
		return
	}
	<-o.system.Done()
	for _, ev := range eventsOf(o.system.Err()) {
		o.event(ev.kind, ev.document)
	}
}

// OpenSystem implements [computecore.Service].
func (s *Service) OpenSystem(id string) (computecore.Handle, computecore.Result) {
	sys := s.engine.System(id)
	if sys == nil {
		return 0, failed(codeSystemNotFound, hcs.ErrNotFound)
	}
	o := &object{system: sys}
	h := s.add(o)
	s.wg.Go(func() { s.watch(o) })
	return h, computecore.Result{}
}

// CloseSystem implements [computecore.Service]. The last handle takes the
// system with it.
func (s *Service) CloseSystem(h computecore.Handle) {
	switch o := s.remove(h); {
	case o == nil:
	case o.container != nil:
		_ = o.container.Close()
	case o.created:
		_ = o.system.Close()
	}
}

// OnSystem implements [computecore.Service].
func (s *Service) OnSystem(h computecore.Handle, f func(computecore.Event)) computecore.Result {
	o := s.object(h)
	if o == nil {
		return failed(codeInvalidHandle, nil)
	}
	o.listen(f)
	return computecore.Result{}
}

// CallSystem implements [computecore.Service].
func (s *Service) CallSystem(c computecore.Call, h computecore.Handle, document string) computecore.Result {
	ctx := context.Background()
	switch o := s.object(h); {
	case o == nil:
		return failed(codeInvalidHandle, nil)
	case o.container != nil:
		return callContainer(ctx, o.container, c, document)
	default:
		return callSystem(ctx, o.system, c, document)
	}
}

func callSystem(ctx context.Context, sys *hcstest.System, c computecore.Call, document string) computecore.Result {
	switch c {
	case computecore.CallStart:
		return resultOf(sys.Start(ctx), false)
	case computecore.CallTerminate:
		over := sys.Err() != nil
		if err := sys.Terminate(ctx); err != nil || !over {
			return resultOf(err, false)
		}
		return failed(codeAlreadyStopped, nil)
	case computecore.CallModify:
		d := json.NewDecoder(bytes.NewReader([]byte(document)))
		d.UseNumber() // numbers stay as they are
		req := new(hcsschema.ModifySettingRequest)
		if err := d.Decode(req); err != nil {
			return failed(codeInvalidJSON, err)
		}
		return resultOf(sys.Modify(ctx, req), false)
	case computecore.CallProperties:
		return properties(document, func(types ...hcsschema.PropertyType) (*hcsschema.Properties, error) {
			return sys.Properties(ctx, types...)
		})
	}
	return failed(codeNotImplemented, nil)
}

func callContainer(ctx context.Context, ctr cow.Container, c computecore.Call, document string) computecore.Result {
	switch c {
	case computecore.CallStart:
		return resultOf(ctr.Start(ctx), false)
	case computecore.CallShutdown:
		return resultOf(ctr.Shutdown(ctx), false)
	case computecore.CallTerminate:
		return resultOf(ctr.Terminate(ctx), false)
	case computecore.CallProperties:
		return properties(document, func(types ...hcsschema.PropertyType) (*hcsschema.Properties, error) {
			if len(types) == 0 { // what the service knows without its guest
				return &hcsschema.Properties{Id: ctr.ID(), SystemType: "Container", RuntimeOsType: ctr.OS()}, nil
			}
			return ctr.PropertiesV2(ctx, types...)
		})
	}
	return failed(codeNotImplemented, nil)
}

func properties(query string, get func(...hcsschema.PropertyType) (*hcsschema.Properties, error)) computecore.Result {
	var q hcsschema.PropertyQuery
	if query != "" {
		if err := json.Unmarshal([]byte(query), &q); err != nil {
			return failed(codeInvalidJSON, err)
		}
	}
	p, err := get(q.PropertyTypes...)
	if err != nil {
		return resultOf(err, false)
	}
	return document(p)
}

func document(v any) computecore.Result {
	b, err := json.Marshal(v)
	if err != nil {
		return failed(codeFail, err)
	}
	return computecore.Result{Document: string(b)}
}

// EnumerateSystems implements [computecore.Service]. Of the query only the
// ids count.
func (s *Service) EnumerateSystems(query string) computecore.Result {
	var q struct{ Ids []string }
	if query != "" {
		if err := json.Unmarshal([]byte(query), &q); err != nil {
			return failed(codeInvalidJSON, err)
		}
	}
	list := []*hcsschema.Properties{}
	for _, id := range q.Ids {
		if sys := s.engine.System(id); sys != nil {
			p, err := sys.Properties(context.Background())
			if err == nil {
				list = append(list, p)
			}
		}
	}
	return document(list)
}

// ServiceProperties implements [computecore.Service].
func (s *Service) ServiceProperties(query string) computecore.Result {
	var q struct{ PropertyTypes []string }
	if err := json.Unmarshal([]byte(query), &q); err != nil {
		return failed(codeInvalidJSON, err)
	}
	out := struct{ Properties []any }{}
	for _, t := range q.PropertyTypes {
		if t != "ProcessorTopology" {
			return failed(codeNotSupported, nil)
		}
		out.Properties = append(out.Properties, map[string]int{"LogicalProcessorCount": s.engine.Host().Processors})
	}
	return document(out)
}

// GrantVMAccess implements [computecore.Service].
func (s *Service) GrantVMAccess(id, path string) computecore.Result {
	return resultOf(s.engine.GrantAccess(context.Background(), id, path, hcs.AccessVM), false)
}

// GrantGroupAccess implements [computecore.Service].
func (s *Service) GrantGroupAccess(path string) computecore.Result {
	return resultOf(s.engine.GrantAccess(context.Background(), "", path, hcs.AccessGroup), false)
}

// Wait returns when everything has ended that was begun for systems; all have
// to be closed.
func (s *Service) Wait() { s.wg.Wait() }

var _ computecore.Service = (*Service)(nil)

// closer closes what can be closed.
func closer(v any) {
	if c, ok := v.(io.Closer); ok {
		_ = c.Close()
	}
}
