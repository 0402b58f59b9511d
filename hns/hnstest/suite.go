package hnstest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/byrevm/byre/hns"
)

// TestNetwork checks that the networks that open makes mean what hns.Network
// says. template is an endpoint that such a network can create, without id
// and name. The suite removes what it creates, and needs no other user of the
// network to be idle.
func TestNetwork(t *testing.T, open func(t *testing.T) hns.Network, template hns.HNSEndpoint) {
	for _, c := range []struct {
		name string
		test func(s *suite)
	}{
		{"EndpointLife", (*suite).endpointLife},
		{"EndpointByName", (*suite).endpointByName},
		{"EndpointIDInUse", (*suite).endpointIDInUse},
		{"EndpointIntoNamespace", (*suite).endpointIntoNamespace},
		{"NamespaceLife", (*suite).namespaceLife},
		{"Membership", (*suite).membership},
		{"RemoveNamespaceKeepsEndpoints", (*suite).removeNamespaceKeepsEndpoints},
		{"RemoveEndpointLeavesNamespace", (*suite).removeEndpointLeavesNamespace},
		{"CaseOfIDs", (*suite).caseOfIDs},
		{"ResultsAreCopies", (*suite).resultsAreCopies},
		{"UnknownIDs", (*suite).unknownIDs},
		{"EndedContext", (*suite).endedContext},
		{"Concurrent", (*suite).concurrent},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.test(&suite{T: t, n: open(t), template: template})
		})
	}
}

// absentID names nothing.
const absentID = "0badf00d-0000-4000-8000-000000000000"

// suite is one test of TestNetwork.
type suite struct {
	*testing.T
	n        hns.Network
	template hns.HNSEndpoint
}

// newEndpoint makes an endpoint and removes it when the test ends.
func (s *suite) newEndpoint(change func(*hns.HNSEndpoint)) *hns.HNSEndpoint {
	s.Helper()
	e := s.template.Clone()
	if change != nil {
		change(e)
	}
	made, err := s.n.CreateEndpoint(s.Context(), e)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		if err := s.n.RemoveEndpoint(context.WithoutCancel(s.Context()), made.Id); err != nil && !errors.Is(err, hns.ErrNotFound) {
			s.Errorf("removing endpoint %s: %v", made.Id, err)
		}
	})
	return made
}

// newNamespace makes a namespace and removes it when the test ends.
func (s *suite) newNamespace() *hns.HostComputeNamespace {
	s.Helper()
	ns, err := s.n.CreateNamespace(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		if err := s.n.RemoveNamespace(context.WithoutCancel(s.Context()), ns.Id); err != nil && !errors.Is(err, hns.ErrNotFound) {
			s.Errorf("removing namespace %s: %v", ns.Id, err)
		}
	})
	return ns
}

// ok fails the test when err is an error.
func (s *suite) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// is fails the test when err is not want.
func (s *suite) is(err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Errorf("got error %v, want %v", err, want)
	}
}

// members fails the test when the namespace id does not have exactly the
// endpoints want, and each of them says so.
func (s *suite) members(id string, want ...string) {
	s.Helper()
	got, err := hns.NamespaceEndpoints(s.Context(), s.n, id)
	s.ok(err)
	var ids []string
	for _, e := range got {
		ids = append(ids, hns.CanonicalID(e.Id))
		if e.Namespace == nil || !hns.SameID(e.Namespace.ID, id) {
			s.Errorf("endpoint %s is in namespace %s and says %+v", e.Id, id, e.Namespace)
		}
	}
	for i, w := range want {
		want[i] = hns.CanonicalID(w)
	}
	if got, want := strings.Join(ids, " "), strings.Join(want, " "); got != want {
		s.Errorf("endpoints of namespace %s: got %q, want %q", id, got, want)
	}
}

// concurrent puts endpoints into and out of one namespace from many places.
func (s *suite) concurrent() {
	ns := s.newNamespace()
	var wg sync.WaitGroup
	for range 8 {
		e := s.newEndpoint(nil)
		wg.Go(func() {
			for range 8 {
				if err := s.n.AddToNamespace(s.Context(), ns.Id, e.Id); err != nil {
					s.Error(err)
				}
				if _, err := s.n.Namespace(s.Context(), ns.Id); err != nil {
					s.Error(err)
				}
				if err := s.n.RemoveFromNamespace(s.Context(), ns.Id, e.Id); err != nil {
					s.Error(err)
				}
			}
		})
	}
	wg.Wait()
	s.members(ns.Id)
}
