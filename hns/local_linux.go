package hns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/Microsoft/go-winio/pkg/guid"
)

// changed is change with what was being done in its error.
func (l *local) changed(ctx context.Context, doing string, do func(*state) error) error {
	if err := l.change(ctx, do); err != nil {
		return fmt.Errorf("hns: %s: %w", doing, err)
	}
	return nil
}

func (l *local) CreateNamespace(ctx context.Context) (made *HostComputeNamespace, err error) {
	err = l.changed(ctx, "creating a namespace", func(s *state) error {
		id, err := guid.NewV4()
		if err != nil {
			return err
		}
		made = &HostComputeNamespace{Id: id.String(), Type: NamespaceGuest, SchemaVersion: SchemaVersion{Major: 2}}
		s.Namespaces = append(s.Namespaces, &ownedNamespace{l.session, made})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return made, nil
}

func (l *local) Namespace(ctx context.Context, id string) (found *HostComputeNamespace, err error) {
	err = l.changed(ctx, "looking up a namespace", func(s *state) error {
		n, err := s.namespace(id)
		if err == nil {
			found = n.Namespace
		}
		return err
	})
	return found, err
}

func (l *local) RemoveNamespace(ctx context.Context, id string) error {
	return l.changed(ctx, "removing a namespace", func(s *state) error {
		n, err := s.namespace(id)
		if err == nil {
			s.removeNamespace(n)
		}
		return err
	})
}

func (l *local) CreateEndpoint(ctx context.Context, e *HNSEndpoint) (*HNSEndpoint, error) {
	o := &ownedEndpoint{Session: l.session, Endpoint: e.Clone()}
	var k kind
	var busy *os.File
	err := l.changed(ctx, "creating an endpoint", func(s *state) (err error) {
		if k, err = s.begin(l, o); err != nil {
			return err
		}
		var n *ownedNamespace
		if e.Namespace != nil {
			if n, err = s.namespace(e.Namespace.ID); err != nil {
				return err
			}
		}
		s.Endpoints = append(s.Endpoints, o)
		if _, ok := k.(builder); ok {
			o.Unfinished = true
			busy, err = l.busy(o.Endpoint.Id) // the last that can fail
			return err
		}
		if n == nil {
			return nil
		}
		return s.put(n.Namespace, o.Endpoint)
	})
	if err != nil && busy != nil { // the state could not be written
		return nil, errors.Join(err, idle(busy))
	}
	if busy != nil {
		if err = l.raise(ctx, k.(builder), o, e.Namespace, busy); err != nil {
			err = fmt.Errorf("hns: creating an endpoint: %w", err)
		}
	}
	if err != nil {
		return nil, err
	}
	return o.Endpoint, nil
}

// begin begins an endpoint that has nothing but what it was asked to have.
func (s *state) begin(l *local, o *ownedEndpoint) (kind, error) {
	e := o.Endpoint
	e.Namespace = nil
	if e.Id == "" {
		id, err := guid.NewV4()
		if err != nil {
			return nil, err
		}
		e.Id = id.String()
	}
	if _, err := guid.FromString(CanonicalID(e.Id)); err != nil {
		return nil, fmt.Errorf("endpoint %.80q: %w", e.Id, err)
	}
	if slices.ContainsFunc(s.Endpoints, func(other *ownedEndpoint) bool { return SameID(other.Endpoint.Id, e.Id) }) {
		return nil, fmt.Errorf("endpoint %s: %w", e.Id, ErrAlreadyExists)
	}
	if e.IsRemoteEndpoint {
		return nil, fmt.Errorf("member IsRemoteEndpoint: %w", ErrNotSupported)
	}
	k, err := kindOf(e)
	if err != nil {
		return nil, err
	}
	return k, k.complete(l, s, o)
}

func (l *local) Endpoint(ctx context.Context, idOrName string) (found *HNSEndpoint, err error) {
	err = l.changed(ctx, "looking up an endpoint", func(s *state) error {
		e, err := s.named(idOrName)
		if err == nil {
			found = e.Endpoint
		}
		return err
	})
	return found, err
}

func (l *local) Endpoints(ctx context.Context) (all []*HNSEndpoint, err error) {
	err = l.changed(ctx, "listing endpoints", func(s *state) error {
		for _, e := range s.Endpoints {
			if !e.Unfinished {
				all = append(all, e.Endpoint)
			}
		}
		return nil
	})
	return all, err
}

func (l *local) RemoveEndpoint(ctx context.Context, id string) error {
	var o *ownedEndpoint
	var b builder
	var busy *os.File
	err := l.changed(ctx, "removing an endpoint", func(s *state) (err error) {
		if o, err = s.endpoint(id); err != nil {
			return err
		}
		k, err := kindOf(o.Endpoint)
		if err != nil {
			return err
		}
		var ok bool
		if b, ok = k.(builder); ok {
			busy, err = l.busy(id)
			return err
		}
		s.removeEndpoint(o)
		return nil
	})
	if err != nil && busy != nil { // the state could not be written
		return errors.Join(err, idle(busy))
	}
	if busy != nil {
		if err = l.raze(ctx, b, o, busy); err != nil {
			err = fmt.Errorf("hns: removing an endpoint: %w", err)
		}
	}
	return err
}

func (l *local) AddToNamespace(ctx context.Context, namespaceID, endpointID string) error {
	return l.pair(ctx, "adding an endpoint to a namespace", namespaceID, endpointID, (*state).put)
}

func (l *local) RemoveFromNamespace(ctx context.Context, namespaceID, endpointID string) error {
	return l.pair(ctx, "removing an endpoint from a namespace", namespaceID, endpointID, (*state).take)
}

func (l *local) pair(ctx context.Context, doing, namespaceID, endpointID string, do func(*state, *HostComputeNamespace, *HNSEndpoint) error) error {
	return l.changed(ctx, doing, func(s *state) error {
		n, err := s.namespace(namespaceID)
		if err != nil {
			return err
		}
		e, err := s.endpoint(endpointID)
		if err != nil {
			return err
		}
		return do(s, n.Namespace, e.Endpoint)
	})
}
