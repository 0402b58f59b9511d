package hns_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/byrevm/byre/hns"
)

// processes are those of a test, with when they started.
type processes map[uint32]uint64

func (p processes) started(pid uint32) (uint64, error) {
	if s, ok := p[pid]; ok {
		if s == 0 {
			return 0, errors.New("access denied")
		}
		return s, nil
	}
	return 0, fs.ErrNotExist
}

func TestHCNSession(t *testing.T) {
	f, _ := hns.NewFakeHCN("nat")
	running := processes{1: 100, 2: 200, 3: 0}
	begin := func(pid uint32) hns.Session {
		t.Helper()
		s, err := hns.NewHCNSession(f, running.started, pid)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	one, two := begin(1), begin(2)
	for _, n := range []hns.Network{one, one, two} {
		ns, err := n.CreateNamespace(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.CreateEndpoint(t.Context(), &hns.HNSEndpoint{Namespace: &hns.Namespace{ID: ns.Id}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := two.CreateEndpoint(t.Context(), &hns.HNSEndpoint{Id: epID}); !errors.Is(err, hns.ErrNotSupported) {
		t.Errorf("got error %v for an id that does not say whose it is, want %v", err, hns.ErrNotSupported)
	}
	stays, err := hns.NewHCN(f).CreateNamespace(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := func(n int, when string) {
		t.Helper()
		if f.Count() != n {
			t.Errorf("%s: got %d objects, want %d", when, f.Count(), n)
		}
	}
	want(7, "in the beginning")

	// A session that cannot be ended can be ended later, and then is nothing.
	broken := errors.New("broken")
	f.Before = func(call, _, _ string) error {
		if call == "Delete" {
			return broken
		}
		return nil
	}
	if err := two.Close(); !errors.Is(err, broken) {
		t.Errorf("got error %v, want %v", err, broken)
	}
	f.Before = nil
	want(7, "after a Close that failed")
	for range 2 {
		if err := two.Close(); err != nil {
			t.Error(err)
		}
		want(5, "after Close")
	}

	// Process 1 was killed; there may be another by its number. What may be a
	// living process's stays, and so does what nobody can tell of.
	delete(running, 1)
	f.Make("Endpoint", hns.HCNOwnedID(2, 199, 1))
	f.Make("Endpoint", hns.HCNOwnedID(2, 200, 1<<31))
	f.Make("Namespace", hns.HCNOwnedID(3, 5, 1))
	third := begin(2)
	want(3, "after the session that follows a death")
	running[1] = 101
	if _, err := third.Namespace(t.Context(), stays.Id); err != nil {
		t.Error(err)
	}
	if err := third.Close(); err != nil {
		t.Error(err)
	}
	want(3, "at the end")
}

func TestHCNSessionWithoutService(t *testing.T) {
	f, _ := hns.NewFakeHCN()
	f.Before = func(string, string, string) error { return fmt.Errorf("no DLL: %w", hns.ErrNotSupported) }
	if _, err := hns.NewHCNSession(f, processes{1: 1}.started, 1); !errors.Is(err, hns.ErrNotSupported) {
		t.Errorf("got error %v, want %v", err, hns.ErrNotSupported)
	}
	if _, err := hns.NewHCNSession(f, processes{}.started, 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got error %v for a process that is not there", err)
	}
}

// The context ends the wait, not the call. What was made when nobody waited
// any more is removed again.
func TestHCNLate(t *testing.T) {
	for _, tt := range []struct {
		call string
		do   func(ctx context.Context, n hns.Network, ns, e string) error
		// how often a call that changes something follows the late one
		undo string
	}{
		{"Create", func(ctx context.Context, n hns.Network, _, _ string) error {
			_, err := n.CreateEndpoint(ctx, &hns.HNSEndpoint{})
			return err
		}, "Delete"},
		{"Create", func(ctx context.Context, n hns.Network, _, _ string) error {
			_, err := n.CreateNamespace(ctx)
			return err
		}, "Delete"},
		{"Modify", func(ctx context.Context, n hns.Network, ns, e string) error { return n.RemoveFromNamespace(ctx, ns, e) }, "Modify"},
	} {
		f, _ := hns.NewFakeHCN("nat")
		n := hns.NewHCN(f)
		ns, err := n.CreateNamespace(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		e, err := n.CreateEndpoint(t.Context(), &hns.HNSEndpoint{Namespace: &hns.Namespace{ID: ns.Id}})
		if err != nil {
			t.Fatal(err)
		}
		inCall, release, undone := make(chan bool), make(chan bool), make(chan bool)
		late := false
		f.Before = func(call, _, _ string) error {
			switch {
			case call == tt.call && !late:
				late = true
				close(inCall)
				<-release
			case call == tt.undo:
				close(undone)
			}
			return nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error, 1)
		go func() { result <- tt.do(ctx, n, ns.Id, e.Id) }()
		<-inCall
		cancel()
		if err := <-result; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got error %v, want %v", tt.call, err, context.Canceled)
		}
		close(release)
		<-undone
		// The fake has its lock in the call that undoes, or has done it.
		for {
			all, err := hns.NamespaceEndpoints(t.Context(), n, ns.Id)
			if err != nil {
				t.Fatal(err)
			}
			if f.Count() == 2 && len(all) == 1 && all[0].Id == e.Id {
				break
			}
		}
	}
}
