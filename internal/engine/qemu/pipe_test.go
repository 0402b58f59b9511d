//go:build linux

package qemu

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

func openFiles(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

func TestPipe(t *testing.T) {
	before := openFiles(t)
	checkResidue(t, testEngine(t))
	s := running(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const port = hcs.PipePort + 3
	add := func(path string, settings any) error {
		return modify(t.Context(), s, hcsschema.Add, hcs.PipePath(path), settings)
	}
	for _, c := range []struct {
		path     string
		settings any
		want     error
		text     string
	}{
		{`\\.\pipe\x`, nil, hcs.ErrNotSupported, "Windows pipe"},
		{"s", hcsschema.PipeSocket{Port: port}, nil, "absolute"},
		{path, nil, hcs.ErrNotSupported, "without Port"},
		{path, hcsschema.PipeSocket{Port: hcs.Plan9Port}, hcs.ErrNotSupported, "Port 564"},
		{path, hcsschema.PipeSocket{Port: hcs.BridgePort}, hcs.ErrNotSupported, "Port"},
		{path, map[string]any{"Toast": 1}, hcs.ErrNotSupported, "Toast"},
		{path + "x", hcsschema.PipeSocket{Port: port}, fs.ErrNotExist, ""},
		{dir, hcsschema.PipeSocket{Port: port}, nil, "not a socket"},
	} {
		if err := add(c.path, c.settings); err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s %v: %v", c.path, c.settings, err)
		}
	}
	remove := func() error { return modify(t.Context(), s, hcsschema.Remove, hcs.PipePath(path), nil) }
	for range 2 {
		if err := add(path, hcsschema.PipeSocket{Port: port}); err != nil {
			t.Fatal(err)
		}
		if err := add(path, hcsschema.PipeSocket{Port: port + 1}); !errors.Is(err, hcs.ErrAlreadyExists) {
			t.Error(err)
		}
		if _, err := s.Listen(hcs.VsockServiceID(port)); !errors.Is(err, hcs.ErrAlreadyExists) {
			t.Errorf("listening where the pipe does: %v", err)
		}
		if err := remove(); err != nil {
			t.Error(err)
		}
		if err := remove(); !errors.Is(err, hcs.ErrNotFound) {
			t.Error(err)
		}
	}
	taken, err := s.Listen(hcs.VsockServiceID(port))
	if err != nil {
		t.Fatal(err)
	}
	if err := add(path, hcsschema.PipeSocket{Port: port}); !errors.Is(err, hcs.ErrAlreadyExists) {
		t.Error(err)
	}
	taken.Close()
	if err := add(path, hcsschema.PipeSocket{Port: port}); err != nil { // Close finds it
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	l.Close()
	if after := openFiles(t); after > before+1 { // the poller of this process
		t.Errorf("%d files are open, %d were", after, before)
	}
}
