package container

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestBinds(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "file")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Symlink("file", filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	got, err := binds([]specs.Mount{
		{Type: "proc", Source: "proc", Destination: "/proc"},
		{Type: "bind", Source: dir, Destination: "/a", Options: []string{"rbind", "RO"}},
		{Type: "bind", Source: "sandbox:///x", Destination: "/s"},
		{Source: filepath.Join(dir, "link"), Destination: "/b", Options: []string{"bind", "rw"}},
	})
	want := []bind{{index: 1, dir: dir, readOnly: true}, {index: 3, dir: dir + "/", file: "file"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got, err = binds([]specs.Mount{{Type: "bind", Source: filepath.Join(dir, "socket"), Destination: "/a"}})
	if want := []bind{{socket: filepath.Join(dir, "socket")}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for _, c := range []struct {
		name, source, destination, err string
	}{
		{"no source", "", "/a", "needs a source"},
		{"no destination", dir, "", "needs a source"},
		{"relative", "a", "/a", "absolute"},
		{"missing", filepath.Join(dir, "none"), "/a", fs.ErrNotExist.Error()},
		{"device", os.DevNull, "/a", "neither"},
		{"Windows pipe", `\\.\pipe\x`, "/a", "no Windows pipes"},
		{"Windows pipe inside", dir, `\\.\pipe\x`, "no Windows pipes"},
	} {
		_, err := binds([]specs.Mount{{Type: "bind", Source: c.source, Destination: c.destination}})
		if err == nil && c.err != "" || err != nil && !strings.Contains(err.Error(), c.err) && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.err)
		}
	}
}

func TestOrderedMounts(t *testing.T) {
	ms, err := mounts(SpecOptions{Mounts: []specs.Mount{
		{Destination: "/a/b/", Source: "1"}, {Destination: "/a", Source: "2"}, {Destination: "/dev/shm", Source: "3"},
	}})
	var order []string
	for _, m := range ms {
		if len(m.Source) == 1 {
			order = append(order, m.Destination)
		}
		if m.Destination == "/dev/shm" && m.Source != "3" {
			t.Error("the default mount is still there")
		}
	}
	if got := strings.Join(order, " "); err != nil || got != "/a /a/b /dev/shm" {
		t.Errorf("got %q, %v", got, err)
	}
	for _, bad := range [][]specs.Mount{{{Destination: "/"}}, {{Destination: "a"}}, {{Destination: "/a"}, {Destination: "/a/"}}} {
		if _, err := mounts(SpecOptions{Mounts: bad}); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}
