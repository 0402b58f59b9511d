//go:build linux

package qemu

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/hostfs"
	"github.com/byrevm/byre/internal/virtiofs"
)

// withShares returns a system that has its devices and no QEMU.
func withShares(t *testing.T) *system {
	t.Helper()
	s, err := newSystem(&machine{id: "vm", plan9: true}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, open := range []func(*os.File) error{s.openVsock, s.openShares} {
		ours, theirs, err := socketpair("device")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { theirs.Close() })
		if err := open(ours); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// A share is on both servers or on none.
func TestShareOnBoth(t *testing.T) {
	s := withShares(t)
	share := func(name string) *folder { return &folder{hostfs.Share{Name: name, Path: t.TempDir()}} }
	p9, err := s.folders.serve(s)
	if err != nil {
		t.Fatal(err)
	}
	has := func(what, name string, onDevice, on9P bool) {
		t.Helper()
		// Taking it away tells whether it was there.
		for server, c := range map[string]struct {
			err  error
			want bool
		}{"device": {s.folders.device.Remove(name), onDevice}, "9P": {p9.Remove(name), on9P}} {
			if c.err != nil && !errors.Is(c.err, fs.ErrNotExist) || (c.err == nil) != c.want {
				t.Errorf("%s: on the %s: %v, want it there: %t", what, server, c.err, c.want)
			}
		}
	}
	add := func(name string) error { return share(name).add(t.Context(), s) }
	remove := func(name string) error {
		_, err := share(name).remove(t.Context(), s)
		return err
	}
	for _, c := range []struct {
		name     string
		onDevice bool
	}{{"0", true}, {"a b,c", true}, {"a/b", false}, {"..", false}, {".", false}} {
		if err := add(c.name); err != nil {
			t.Fatal(err)
		}
		if err := add(c.name); !errors.Is(err, hcs.ErrAlreadyExists) {
			t.Errorf("%s twice: %v", c.name, err)
		}
		has("added", c.name, c.onDevice, true)
		if err := add(c.name); err != nil {
			t.Fatal(err)
		}
		if err := remove(c.name); err != nil {
			t.Error(err)
		}
		has("removed", c.name, false, false)
		if err := remove(c.name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s removed twice: %v", c.name, err)
		}
	}
	for what, f := range map[string]*folder{
		"missing":       {hostfs.Share{Name: "x", Path: filepath.Join(t.TempDir(), "none")}},
		"bad name in":   {hostfs.Share{Name: "x", Path: t.TempDir(), AllowedNames: []string{"../y"}}},
		"relative path": {hostfs.Share{Name: "x", Path: "x"}},
	} {
		if err := f.add(t.Context(), s); err == nil {
			t.Errorf("%s: added", what)
		}
		has(what, "x", false, false)
	}
	// The second refuses what the first took.
	if err := s.folders.device.Add(hostfs.Share{Name: "x", Path: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	if err := add("x"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a name that is taken on the device: %v", err)
	}
	has("refused by the device", "x", true, false)
}

// Without the device a share is 9P's.
func TestShareWithoutDevice(t *testing.T) {
	s, err := testEngine(t).Create(t.Context(), "vm", testDocument(t, func(cs *hcsschema.ComputeSystem) {
		cs.VirtualMachine.Devices.Plan9 = nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.(*system).folders.device != nil {
		t.Error("there is a device that the document does not have")
	}
	for _, kind := range []hcsschema.RequestType{hcsschema.Add, hcsschema.Remove} {
		if err := modify(t.Context(), s, kind, hcs.PathPlan9, plan9("a", t.TempDir())); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// A device that ends under a guest is the end of the system, which says why.
func TestShareDeviceEnds(t *testing.T) {
	s := running(t)
	ours, theirs, err := socketpair("device")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := unixConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	device := virtiofs.New(conn, virtiofs.Config{Logger: s.log})
	defer device.Close()
	if _, err := theirs.WriteString(strings.Repeat("nonsense", 10)); err != nil {
		t.Fatal(err)
	}
	s.superviseShares(device)
	<-s.Done()
	var exit *hcs.Exit
	if err := s.Err(); !errors.As(err, &exit) || exit.Kind != hcs.ExitVMMKilled || !strings.Contains(exit.Detail, "device for shares") {
		t.Errorf("got %v", err)
	}
}
