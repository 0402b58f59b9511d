package container_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/byrevm/byre/container"
	"github.com/byrevm/byre/hcs/hcstest"
	"github.com/byrevm/byre/hns"
	"github.com/byrevm/byre/hns/hnstest"
	"github.com/byrevm/byre/uvm"
)

// The network is connected beside the layers. Whichever of them fails, nothing
// is left of either, and a second try succeeds.
func TestConnect(t *testing.T) {
	ctx := t.Context()
	var hook atomic.Pointer[func(context.Context, hcstest.Call) error]
	guest := new(hcstest.Guest)
	engine := hcstest.New(hcstest.Config{Boot: guest.Boot, Hook: func(ctx context.Context, c hcstest.Call) error {
		if h := hook.Load(); h != nil {
			return (*h)(ctx, c)
		}
		return nil
	}})
	dir := t.TempDir()
	file := func(name string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	n := hnstest.New()
	ns, err := n.CreateNamespace(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.CreateEndpoint(ctx, &hns.HNSEndpoint{Namespace: &hns.Namespace{ID: ns.Id}}); err != nil {
		t.Fatal(err)
	}
	opts := uvm.NewDefaultOptionsLCOW("", "test")
	opts.Engine, opts.Network, opts.BootFilesPath, opts.KernelDirect = engine, n, dir, true
	opts.KernelFile, opts.RootFSFile, opts.PreferredRootFSType = filepath.Base(file("kernel")), filepath.Base(file("initrd.img")), uvm.PreferredRootFSTypeInitRd
	vm, err := uvm.CreateLCOW(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	if err := vm.Start(ctx); err != nil {
		t.Fatal(err)
	}
	config := container.Config{
		Spec: &specs.Spec{
			Process: &specs.Process{Args: []string{"true"}},
			Windows: &specs.Windows{Network: &specs.WindowsNetwork{NetworkNamespace: ns.Id}},
		},
		Layers: []string{file("layer")}, Scratch: file("scratch"), Network: n,
	}
	on := func(path string, do func(context.Context) error) *func(context.Context, hcstest.Call) error {
		h := func(ctx context.Context, c hcstest.Call) error {
			if c.Op == hcstest.OpModify && strings.Contains(string(c.Document)+c.Path, path) && strings.Contains(string(c.Document), `"Add"`) {
				return do(ctx)
			}
			return nil
		}
		return &h
	}
	boom := func(context.Context) error { return errBoom }
	blocked := make(chan struct{}, 1)
	block := func(ctx context.Context) error {
		blocked <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
	both := func(ctx context.Context, c hcstest.Call) error {
		if err := (*on("NetworkAdapters", block))(ctx, c); err != nil {
			return err
		}
		return (*on("VirtualPMem", func(context.Context) error {
			<-blocked // the network is at it
			return errBoom
		}))(ctx, c)
	}
	for _, tt := range []struct {
		name string
		hook *func(context.Context, hcstest.Call) error
	}{
		{"network", on("NetworkAdapters", boom)},
		{"layer", on("VirtualPMem", boom)},
		{"scratch", on("Scsi", boom)},
		{"layer, while the network waits", &both},
	} {
		hook.Store(tt.hook)
		_, err := container.Create(ctx, vm, config)
		if !errors.Is(err, errBoom) || errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want %v alone", tt.name, err, errBoom)
		}
		hook.Store(nil)
		if left := engine.System(vm.ID()).Devices(); len(left) != 0 {
			t.Errorf("%s: %v are left", tt.name, left)
		}
		if err := vm.RemoveEndpointsFromNS(ctx, ns.Id, nil); !errors.Is(err, uvm.ErrNetNSNotFound) {
			t.Errorf("%s: got %v, want %v", tt.name, err, uvm.ErrNetNSNotFound)
		}
	}
	c, err := container.Create(ctx, vm, config)
	if err != nil {
		t.Fatal(err)
	}
	var stages []string
	for _, s := range c.Timeline() {
		stages = append(stages, s.Name)
	}
	if got := strings.Join(stages, " "); got != "layers network container" {
		t.Errorf("got %s", got)
	}
	if got := len(engine.System(vm.ID()).Devices()); got != 3 {
		t.Errorf("got %d devices, want a NIC, a layer and a scratch disk", got)
	}
	if err := c.Delete(ctx); err != nil {
		t.Error(err)
	}
	if left := engine.System(vm.ID()).Devices(); len(left) != 0 {
		t.Errorf("%v are left", left)
	}
}
