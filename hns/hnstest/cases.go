package hnstest

import (
	"context"
	"strings"

	"github.com/byrevm/byre/hns"
)

func (s *suite) endpointLife() {
	e := s.newEndpoint(func(e *hns.HNSEndpoint) { e.Name = "life" })
	if e.Id == "" || e.MacAddress == "" || e.Name != "life" || e.Namespace != nil {
		s.Errorf("got %+v, want an id, a MAC address, the name and no namespace", e)
	}
	got, err := s.n.Endpoint(s.Context(), e.Id)
	s.ok(err)
	if got.MacAddress != e.MacAddress || got.Name != e.Name || !got.IPAddress.Equal(e.IPAddress) {
		s.Errorf("got %+v, want %+v", got, e)
	}
	if !s.listed(e.Id) {
		s.Errorf("endpoint %s is not in the list", e.Id)
	}
	s.ok(s.n.RemoveEndpoint(s.Context(), e.Id))
	if s.listed(e.Id) {
		s.Errorf("endpoint %s was removed and is in the list", e.Id)
	}
	_, err = s.n.Endpoint(s.Context(), e.Id)
	s.is(err, hns.ErrNotFound)
	s.is(s.n.RemoveEndpoint(s.Context(), e.Id), hns.ErrNotFound)
}

func (s *suite) listed(id string) bool {
	s.Helper()
	all, err := s.n.Endpoints(s.Context())
	s.ok(err)
	for _, e := range all {
		if hns.SameID(e.Id, id) {
			return true
		}
	}
	return false
}

func (s *suite) endpointByName() {
	first := s.newEndpoint(func(e *hns.HNSEndpoint) { e.Name = "one" })
	// A name that is another's id does not hide that other.
	s.newEndpoint(func(e *hns.HNSEndpoint) { e.Name = first.Id })
	for _, key := range []string{"one", first.Id} {
		got, err := s.n.Endpoint(s.Context(), key)
		s.ok(err)
		if got.Id != first.Id {
			s.Errorf("endpoint %s: got %s, want %s", key, got.Id, first.Id)
		}
	}
	_, err := s.n.Endpoint(s.Context(), "")
	s.is(err, hns.ErrNotFound)
	s.newEndpoint(func(e *hns.HNSEndpoint) { e.Name = "one" })
	if got, err := s.n.Endpoint(s.Context(), "one"); err == nil {
		s.Errorf("got %s for a name that two have, want an error", got.Id)
	}
}

func (s *suite) endpointIDInUse() {
	e := s.newEndpoint(nil)
	other := s.template.Clone()
	other.Id = strings.ToUpper(e.Id)
	_, err := s.n.CreateEndpoint(s.Context(), other)
	s.is(err, hns.ErrAlreadyExists)
	got, err := s.n.Endpoint(s.Context(), e.Id)
	s.ok(err)
	if got.MacAddress != e.MacAddress {
		s.Errorf("got MAC address %s, want %s", got.MacAddress, e.MacAddress)
	}
}

func (s *suite) endpointIntoNamespace() {
	ns := s.newNamespace()
	e := s.newEndpoint(func(e *hns.HNSEndpoint) { e.Namespace = &hns.Namespace{ID: ns.Id} })
	s.members(ns.Id, e.Id)

	lost := s.template.Clone()
	lost.Namespace = &hns.Namespace{ID: absentID}
	before, err := s.n.Endpoints(s.Context())
	s.ok(err)
	_, err = s.n.CreateEndpoint(s.Context(), lost)
	s.is(err, hns.ErrNotFound)
	after, err := s.n.Endpoints(s.Context())
	s.ok(err)
	if len(after) != len(before) {
		s.Errorf("got %d endpoints after a failure, want %d", len(after), len(before))
	}
}

func (s *suite) namespaceLife() {
	ns, other := s.newNamespace(), s.newNamespace()
	if ns.Id == "" || hns.SameID(ns.Id, other.Id) {
		s.Errorf("got ids %q and %q, want two", ns.Id, other.Id)
	}
	s.members(ns.Id)
	s.ok(s.n.RemoveNamespace(s.Context(), ns.Id))
	_, err := s.n.Namespace(s.Context(), ns.Id)
	s.is(err, hns.ErrNotFound)
	s.is(s.n.RemoveNamespace(s.Context(), ns.Id), hns.ErrNotFound)
	s.members(other.Id)
}

func (s *suite) membership() {
	ns, other := s.newNamespace(), s.newNamespace()
	a, b := s.newEndpoint(nil), s.newEndpoint(nil)
	s.ok(s.n.AddToNamespace(s.Context(), ns.Id, a.Id))
	s.ok(s.n.AddToNamespace(s.Context(), ns.Id, b.Id))
	s.ok(s.n.AddToNamespace(s.Context(), ns.Id, a.Id))
	s.members(ns.Id, a.Id, b.Id)

	s.is(s.n.AddToNamespace(s.Context(), other.Id, a.Id), hns.ErrAlreadyExists)
	s.is(s.n.RemoveFromNamespace(s.Context(), other.Id, a.Id), hns.ErrNotFound)
	s.members(ns.Id, a.Id, b.Id)
	s.members(other.Id)

	s.ok(s.n.RemoveFromNamespace(s.Context(), ns.Id, a.Id))
	s.is(s.n.RemoveFromNamespace(s.Context(), ns.Id, a.Id), hns.ErrNotFound)
	s.members(ns.Id, b.Id)
	s.ok(s.n.AddToNamespace(s.Context(), other.Id, a.Id))
	s.members(other.Id, a.Id)
}

func (s *suite) removeNamespaceKeepsEndpoints() {
	ns, other := s.newNamespace(), s.newNamespace()
	e := s.newEndpoint(nil)
	s.ok(s.n.AddToNamespace(s.Context(), ns.Id, e.Id))
	s.ok(s.n.RemoveNamespace(s.Context(), ns.Id))
	got, err := s.n.Endpoint(s.Context(), e.Id)
	s.ok(err)
	if got.Namespace != nil {
		s.Errorf("got namespace %+v, want none", got.Namespace)
	}
	s.ok(s.n.AddToNamespace(s.Context(), other.Id, e.Id))
}

func (s *suite) removeEndpointLeavesNamespace() {
	ns := s.newNamespace()
	a, b := s.newEndpoint(nil), s.newEndpoint(nil)
	s.ok(s.n.AddToNamespace(s.Context(), ns.Id, a.Id))
	s.ok(s.n.AddToNamespace(s.Context(), ns.Id, b.Id))
	s.ok(s.n.RemoveEndpoint(s.Context(), a.Id))
	s.members(ns.Id, b.Id)
}

func (s *suite) caseOfIDs() {
	ns, e := s.newNamespace(), s.newEndpoint(nil)
	upperNS, upper := strings.ToUpper(ns.Id), strings.ToUpper(e.Id)
	s.ok(s.n.AddToNamespace(s.Context(), upperNS, upper))
	s.ok(s.n.AddToNamespace(s.Context(), ns.Id, e.Id))
	s.members(upperNS, e.Id)
	s.ok(s.n.RemoveFromNamespace(s.Context(), strings.ToLower(ns.Id), strings.ToLower(e.Id)))
	s.members(ns.Id)
	s.ok(s.n.RemoveEndpoint(s.Context(), upper))
	s.ok(s.n.RemoveNamespace(s.Context(), upperNS))
}

func (s *suite) resultsAreCopies() {
	ns := s.newNamespace()
	wanted := s.template.Clone()
	made, err := s.n.CreateEndpoint(s.Context(), wanted)
	s.ok(err)
	id, mac := made.Id, made.MacAddress
	s.Cleanup(func() { s.ok(s.n.RemoveEndpoint(context.WithoutCancel(s.Context()), id)) })
	if wanted.Id != s.template.Id || wanted.MacAddress != s.template.MacAddress {
		s.Errorf("CreateEndpoint changed its argument: %+v", wanted)
	}
	made.MacAddress = "changed"
	wanted.MacAddress = "changed"
	s.ok(s.n.AddToNamespace(s.Context(), ns.Id, id))
	read, err := s.n.Namespace(s.Context(), ns.Id)
	s.ok(err)
	read.Resources[0].Data[0] = 'x'
	s.members(ns.Id, id)
	got, err := s.n.Endpoint(s.Context(), id)
	s.ok(err)
	if got.MacAddress != mac {
		s.Errorf("got MAC address %s, want %s", got.MacAddress, mac)
	}
}

func (s *suite) unknownIDs() {
	ctx := s.Context()
	ns, e := s.newNamespace(), s.newEndpoint(nil)
	_, err := s.n.Namespace(ctx, absentID)
	s.is(err, hns.ErrNotFound)
	_, err = s.n.Endpoint(ctx, absentID)
	s.is(err, hns.ErrNotFound)
	_, err = hns.NamespaceEndpoints(ctx, s.n, absentID)
	s.is(err, hns.ErrNotFound)
	s.is(s.n.RemoveNamespace(ctx, absentID), hns.ErrNotFound)
	s.is(s.n.RemoveEndpoint(ctx, absentID), hns.ErrNotFound)
	s.is(s.n.AddToNamespace(ctx, absentID, e.Id), hns.ErrNotFound)
	s.is(s.n.AddToNamespace(ctx, ns.Id, absentID), hns.ErrNotFound)
	s.is(s.n.RemoveFromNamespace(ctx, absentID, e.Id), hns.ErrNotFound)
	s.is(s.n.RemoveFromNamespace(ctx, ns.Id, absentID), hns.ErrNotFound)
	s.members(ns.Id)
}

func (s *suite) endedContext() {
	ns, e := s.newNamespace(), s.newEndpoint(nil)
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	first := func(_ any, err error) error { return err }
	for _, err := range []error{
		first(s.n.CreateNamespace(ctx)),
		first(s.n.Namespace(ctx, ns.Id)),
		s.n.RemoveNamespace(ctx, ns.Id),
		first(s.n.CreateEndpoint(ctx, s.template.Clone())),
		first(s.n.Endpoint(ctx, e.Id)),
		first(s.n.Endpoints(ctx)),
		s.n.RemoveEndpoint(ctx, e.Id),
		s.n.AddToNamespace(ctx, ns.Id, e.Id),
		s.n.RemoveFromNamespace(ctx, ns.Id, e.Id),
	} {
		s.is(err, context.Canceled)
	}
	s.members(ns.Id)
	_, err := s.n.Endpoint(s.Context(), e.Id)
	s.ok(err)
}
