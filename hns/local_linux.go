package hns

import (
	"context"
	"fmt"

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

func (l *local) CreateEndpoint(ctx context.Context, e *HNSEndpoint) (made *HNSEndpoint, err error) {
	err = l.changed(ctx, "creating an endpoint", func(s *state) error {
		made = e.Clone()
		made.Namespace = nil
		if made.Id == "" {
			id, err := guid.NewV4()
			if err != nil {
				return err
			}
			made.Id = id.String()
		}
		if _, err := guid.FromString(CanonicalID(made.Id)); err != nil {
			return fmt.Errorf("endpoint %.80q: %w", made.Id, err)
		}
		if _, err := s.endpoint(made.Id); err == nil {
			return fmt.Errorf("endpoint %s: %w", made.Id, ErrAlreadyExists)
		}
		if made.IsRemoteEndpoint {
			return fmt.Errorf("member IsRemoteEndpoint: %w", ErrNotSupported)
		}
		k, err := kindOf(made)
		if err != nil {
			return err
		}
		o := &ownedEndpoint{Session: l.session, Endpoint: made}
		if err := k.complete(l, s, o); err != nil {
			return err
		}
		s.Endpoints = append(s.Endpoints, o)
		if e.Namespace == nil {
			return nil
		}
		n, err := s.namespace(e.Namespace.ID)
		if err != nil {
			return err
		}
		return s.put(n.Namespace, made)
	})
	if err != nil {
		return nil, err
	}
	return made, nil
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
			all = append(all, e.Endpoint)
		}
		return nil
	})
	return all, err
}

func (l *local) RemoveEndpoint(ctx context.Context, id string) error {
	return l.changed(ctx, "removing an endpoint", func(s *state) error {
		e, err := s.endpoint(id)
		if err == nil {
			s.removeEndpoint(e)
		}
		return err
	})
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
