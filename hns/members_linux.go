package hns

import (
	"fmt"
	"slices"
)

func (s *state) namespace(id string) (*ownedNamespace, error) {
	for _, n := range s.Namespaces {
		if SameID(n.Namespace.Id, id) {
			return n, nil
		}
	}
	return nil, fmt.Errorf("namespace %s: %w", id, ErrNotFound)
}

func (s *state) endpoint(id string) (*ownedEndpoint, error) {
	for _, e := range s.Endpoints {
		if SameID(e.Endpoint.Id, id) && !e.Unfinished {
			return e, nil
		}
	}
	return nil, fmt.Errorf("endpoint %s: %w", id, ErrNotFound)
}

// named returns the endpoint with an id or, when there is none, a name.
func (s *state) named(idOrName string) (*ownedEndpoint, error) {
	e, err := s.endpoint(idOrName)
	if err == nil || idOrName == "" {
		return e, err
	}
	var found *ownedEndpoint
	for _, e := range s.Endpoints {
		if e.Endpoint.Name != idOrName || e.Unfinished {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("more than one endpoint has the name %s", idOrName)
		}
		found = e
	}
	if found == nil {
		return nil, err
	}
	return found, nil
}

func (s *state) put(n *HostComputeNamespace, e *HNSEndpoint) error {
	if e.Namespace != nil {
		if !SameID(e.Namespace.ID, n.Id) {
			return fmt.Errorf("endpoint %s is in namespace %s: %w", e.Id, e.Namespace.ID, ErrAlreadyExists)
		}
		return nil
	}
	e.Namespace = &Namespace{ID: n.Id}
	n.Resources = append(n.Resources, NewEndpointResource(e.Id))
	return nil
}

func (s *state) take(n *HostComputeNamespace, e *HNSEndpoint) error {
	if e.Namespace == nil || !SameID(e.Namespace.ID, n.Id) {
		return fmt.Errorf("endpoint %s in namespace %s: %w", e.Id, n.Id, ErrNotFound)
	}
	e.Namespace = nil
	n.Resources = slices.DeleteFunc(n.Resources, func(r NamespaceResource) bool {
		one := HostComputeNamespace{Resources: []NamespaceResource{r}}
		ids, err := one.EndpointIDs()
		return err == nil && len(ids) == 1 && SameID(ids[0], e.Id)
	})
	return nil
}

func (s *state) removeNamespace(n *ownedNamespace) {
	for _, e := range s.Endpoints {
		if e.Endpoint.Namespace != nil && SameID(e.Endpoint.Namespace.ID, n.Namespace.Id) {
			e.Endpoint.Namespace = nil
		}
	}
	s.Namespaces = slices.DeleteFunc(s.Namespaces, func(o *ownedNamespace) bool { return o == n })
}

func (s *state) removeEndpoint(e *ownedEndpoint) {
	s.leave(e)
	if e.NetNS != "" {
		s.cut = append(s.cut, tapName(e.Endpoint.Id))
	}
	s.Endpoints = slices.DeleteFunc(s.Endpoints, func(o *ownedEndpoint) bool { return o == e })
}

// leave takes an endpoint out of its namespace.
func (s *state) leave(e *ownedEndpoint) {
	if ns := e.Endpoint.Namespace; ns != nil {
		if n, err := s.namespace(ns.ID); err == nil {
			_ = s.take(n.Namespace, e.Endpoint) // it is in it
		}
	}
}
