//go:build linux

package qemu

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

func plan9(name, path string) hcsschema.Plan9Share {
	return hcsschema.Plan9Share{Name: name, AccessName: name, Path: path, Port: 564, Flags: hcsschema.Plan9FlagLinuxMetadata}
}

func TestNewFolder(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(*hcsschema.Plan9Share)
		refused string // what the error names; "" is no error
	}{
		{"plain", func(s *hcsschema.Plan9Share) {}, ""},
		{"no port", func(s *hcsschema.Plan9Share) { s.Port = 0 }, ""},
		{"another port", func(s *hcsschema.Plan9Share) { s.Port = 565 }, "Port"},
		{"unknown flag", func(s *hcsschema.Plan9Share) { s.Flags |= 0x100 }, "Flags 0x100"},
		{"root identity", func(s *hcsschema.Plan9Share) { s.UseShareRootIdentity = true }, "UseShareRootIdentity"},
		{"files without restriction", func(s *hcsschema.Plan9Share) { s.AllowedFiles = []string{"a"} }, "AllowedFiles"},
		{"no path", func(s *hcsschema.Plan9Share) { s.Path = "" }, "Path"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := plan9("a", "/x")
			c.change(&s)
			f, err := newFolder(&s)
			switch {
			case c.refused == "" && (err != nil || f.share.Name != "a" || f.share.Path != "/x" || f.share.ReadOnly || f.share.AllowedNames != nil):
				t.Errorf("got %+v, %v", f, err)
			case c.refused != "" && (err == nil || !strings.Contains(err.Error(), c.refused)):
				t.Errorf("got error %v, want one that names %s", err, c.refused)
			}
		})
	}
	s := plan9("a", "/x")
	s.AccessName, s.Flags = "other", 0x1|0x4|0x8|0x80
	f, err := newFolder(&s)
	if err != nil || f.share.Name != "other" || !f.share.ReadOnly || f.share.AllowedNames == nil || len(f.share.AllowedNames) != 0 {
		t.Errorf("got %+v, %v", f, err)
	}
}

func TestPlan9(t *testing.T) {
	e := testEngine(t)
	checkResidue(t, e)
	s := running(t)
	dir := t.TempDir()
	add := func(sh hcsschema.Plan9Share) error { return modify(t.Context(), s, hcsschema.Add, hcs.PathPlan9, sh) }
	want := func(what string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", what, err, want)
		}
	}
	noName := plan9("", dir)
	if err := add(noName); err == nil || !strings.Contains(err.Error(), "Name") {
		t.Errorf("a share without a name: %v", err)
	}
	flags := plan9("a", dir)
	flags.Flags = 0x40
	want("unknown flags", add(flags), hcs.ErrNotSupported)
	want("unknown member", modify(t.Context(), s, hcsschema.Add, hcs.PathPlan9, map[string]any{"Name": "a", "Toast": 1}), hcs.ErrNotSupported)
	want("update", modify(t.Context(), s, hcsschema.Update, hcs.PathPlan9, plan9("a", dir)), hcs.ErrNotSupported)
	want("a missing folder", add(plan9("a", filepath.Join(dir, "none"))), fs.ErrNotExist)
	p := filepath.Join(dir, "f")
	if err := os.WriteFile(p, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	want("a file", add(plan9("a", p)), unix.ENOTDIR)
	bad := plan9("a", dir)
	bad.Flags, bad.AllowedFiles = 0x84, []string{"../x"}
	if err := add(bad); err == nil {
		t.Error("a name with a slash was allowed")
	}
	if err := add(plan9("a", dir)); err != nil {
		t.Fatal(err)
	}
	same := plan9("b", dir)
	same.AccessName = "a"
	want("two of one access name", add(same), hcs.ErrAlreadyExists)
	want("a guest request", s.Modify(t.Context(), &hcsschema.ModifySettingRequest{
		ResourcePath: hcs.PathPlan9, RequestType: hcsschema.Remove, Settings: plan9("a", ""), GuestRequest: &hcsschema.GuestRequest{},
	}), hcs.ErrNotSupported)
	if _, err := s.Listen(hcs.VsockServiceID(hcs.Plan9Port)); !errors.Is(err, hcs.ErrAlreadyExists) {
		t.Errorf("listening where the server does: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	want("add after Close", add(plan9("c", dir)), hcs.ErrStopped)
}
