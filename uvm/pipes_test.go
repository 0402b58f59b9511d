//go:build linux

package uvm_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcs/hcstest"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/schema1"
	"github.com/byrevm/byre/uvm"
)

func listenUnix(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if err := os.Chmod(path, 0o620); err != nil {
		t.Fatal(err)
	}
	return path
}

// pipeRequests returns the settings of the pipes that host and guest got.
func pipeRequests(t *testing.T, v *testVM) (host []hcsschema.PipeSocket, guest []hcsschema.LCOWMappedPipe) {
	t.Helper()
	for _, c := range v.engine.Calls() {
		var m struct {
			RequestType  hcsschema.RequestType
			ResourcePath string
			Settings     hcsschema.PipeSocket
			Request      struct {
				RequestType  hcsschema.RequestType
				ResourceType hcsschema.ResourceType
				Settings     hcsschema.LCOWMappedPipe
			}
		}
		if c.Op != hcstest.OpModify && c.Op != guestModify {
			continue
		}
		if err := json.Unmarshal(c.Document, &m); err != nil {
			t.Fatal(err)
		}
		if c.Op == hcstest.OpModify && m.RequestType == hcsschema.Add {
			host = append(host, m.Settings)
		}
		if m.Request.ResourceType == hcsschema.ResourceMappedPipe && m.Request.RequestType == hcsschema.Add {
			guest = append(guest, m.Request.Settings)
		}
	}
	return host, guest
}

func TestPipeSocket(t *testing.T) {
	path, other := listenUnix(t), listenUnix(t)
	v := start(t, setup{})
	ctx := t.Context()
	a, err := v.AddPipe(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := v.AddPipe(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	c, err := v.AddPipe(ctx, other)
	if err != nil {
		t.Fatal(err)
	}
	if a.UVMPath() != "/run/pipes/0" || b.UVMPath() != a.UVMPath() || c.UVMPath() != "/run/pipes/1" {
		t.Errorf("places %q, %q, %q", a.UVMPath(), b.UVMPath(), c.UVMPath())
	}
	host, guest := pipeRequests(t, v)
	id := func(mount, link string, port uint32) hcsschema.LCOWMappedPipe {
		return hcsschema.LCOWMappedPipe{MountPath: mount, LinkPath: link, Port: port, Mode: 0o620, UserID: uint32(os.Getuid()), GroupID: uint32(os.Getgid())}
	}
	wantHost := []hcsschema.PipeSocket{{Port: hcs.PipePort}, {Port: hcs.PipePort + 1}}
	wantGuest := []hcsschema.LCOWMappedPipe{id("/run/pipes/0", path, hcs.PipePort), id("/run/pipes/1", other, hcs.PipePort+1)}
	if fmt.Sprint(host, guest) != fmt.Sprint(wantHost, wantGuest) {
		t.Errorf("got %+v, %+v\nwant %+v, %+v", host, guest, wantHost, wantGuest)
	}
	v.since()
	if err := errors.Join(a.Release(ctx), a.Release(ctx)); err != nil {
		t.Error(err)
	}
	v.expect()
	v.hook.fail(hcstest.OpModify) // the guest lets go of it, the host does not
	if err := b.Release(ctx); !errors.Is(err, errBoom) {
		t.Error(err)
	}
	v.hook.set(nil)
	if err := errors.Join(b.Release(ctx), c.Release(ctx)); err != nil {
		t.Error(err)
	}
	v.expect("guest Remove MappedPipe /run/pipes/0", "host Remove MappedPipes/"+path, "host Remove MappedPipes/"+path,
		"guest Remove MappedPipe /run/pipes/1", "host Remove MappedPipes/"+other)
	v.empty()
}

// TestPipeSocketFails lets the guest refuse a socket, and the host then not
// take it back: the next try does.
func TestPipeSocketFails(t *testing.T) {
	path := listenUnix(t)
	v := start(t, setup{})
	ctx := t.Context()
	v.hook.fail(guestModify)
	if _, err := v.AddPipe(ctx, path); !isBoom(err) {
		t.Error(err)
	}
	v.empty()
	v.hook.set(func(_ context.Context, c hcstest.Call) error {
		if c.Op == guestModify || c.Op == hcstest.OpModify && strings.Contains(string(c.Document), `"Remove"`) {
			return errBoom
		}
		return nil
	})
	if _, err := v.AddPipe(ctx, path); !errors.Is(err, errBoom) {
		t.Error(err)
	}
	v.hook.set(nil)
	p, err := v.AddPipe(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Release(ctx); err != nil {
		t.Error(err)
	}
	v.empty()
	v.since()
	for bad, want := range map[string]error{path + "x": fs.ErrNotExist, filepath.Dir(path): nil} {
		if _, err := v.AddPipe(ctx, bad); err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	v.expect() // before any side effect
}

// TestPipeSocketUnknown has guests that know no sockets: the host gets what it
// got before there were any.
func TestPipeSocketUnknown(t *testing.T) {
	path := listenUnix(t)
	v := start(t, setup{guest: &hcstest.Guest{Capabilities: new(schema1.GuestDefinedCapabilities)}})
	p, err := v.AddPipe(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if p.UVMPath() != "" {
		t.Errorf("it is at %s", p.UVMPath())
	}
	if host, guest := pipeRequests(t, v); len(host) != 1 || host[0] != (hcsschema.PipeSocket{}) || len(guest) != 0 {
		t.Errorf("got %+v, %+v", host, guest)
	}
	v.expect("host Add MappedPipes/" + path)
	if err := p.Release(t.Context()); err != nil {
		t.Error(err)
	}
	if err := v.RemovePipe(t.Context(), path); err != uvm.ErrNotAttached {
		t.Error(err)
	}
}

func isBoom(err error) bool { return err != nil && strings.Contains(err.Error(), errBoom.Error()) }
