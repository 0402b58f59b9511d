package uvm_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcs/hcstest"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/uvm"
)

const vsmbShare = `\\?\VMSMB\VSMB-{dcc079ae-60ba-4d07-847c-3493609c0870}\`

// shareCalls returns the changes of shares since the last call, as
// "Update s1 a.txt,b.txt".
func (v *testVM) shareCalls() string {
	v.t.Helper()
	calls := v.engine.Calls()
	var l []string
	for _, c := range calls[v.mark:] {
		var m struct {
			ResourcePath string
			RequestType  hcsschema.RequestType
			Settings     hcsschema.VirtualSmbShare
		}
		if c.Op != hcstest.OpModify {
			continue
		}
		if err := json.Unmarshal(c.Document, &m); err != nil {
			v.t.Fatal(err)
		}
		var files []string
		for _, f := range m.Settings.AllowedFiles {
			files = append(files, filepath.Base(f))
		}
		l = append(l, strings.TrimSpace(fmt.Sprintf("%s %s %s", m.RequestType, m.Settings.Name, strings.Join(files, ","))))
	}
	v.mark = len(calls)
	return strings.Join(l, "; ")
}

func (v *testVM) shared(want string) {
	v.t.Helper()
	if got := v.shareCalls(); got != want {
		v.t.Errorf("the host got %q, want %q", got, want)
	}
}

func (v *testVM) share(path string, o hcsschema.VirtualSmbShareOptions) *uvm.VSMBShare {
	v.t.Helper()
	before := o
	s, err := v.AddVSMB(v.t.Context(), path, nil, &o)
	if err != nil {
		v.t.Fatal(err)
	}
	if o != before {
		v.t.Errorf("options changed to %+v", o)
	}
	if s.HostPath != path {
		v.t.Errorf("HostPath %s", s.HostPath)
	}
	return s
}

func TestVSMBFolder(t *testing.T) {
	v := startWindows(t, windowsSetup{})
	ctx := t.Context()
	dir := t.TempDir()
	readOnly := hcsschema.VirtualSmbShareOptions{ReadOnly: true}
	a, b := v.share(dir, readOnly), v.share(dir+"/", readOnly)
	v.shared("Add s1")
	w := v.share(dir, hcsschema.VirtualSmbShareOptions{}) // is not handed the read-only one
	v.shared("Add m1")
	if a.UVMPath() != vsmbShare+"s1" || b.UVMPath() != a.UVMPath() || w.UVMPath() != vsmbShare+"m1" {
		t.Error(a.UVMPath(), b.UVMPath(), w.UVMPath())
	}
	if p, err := v.GetVSMBUvmPath(ctx, dir); p != a.UVMPath() || err != nil {
		t.Error(p, err)
	}
	if err := os.RemoveAll(dir); err != nil { // must not matter
		t.Fatal(err)
	}
	if err := errors.Join(a.Release(ctx), a.Release(ctx)); err != nil {
		t.Error(err)
	}
	v.shared("")
	v.hook.fail(hcstest.OpModify)
	if err := v.RemoveVSMB(ctx, dir); !errors.Is(err, errBoom) {
		t.Error(err)
	}
	v.hook.set(nil)
	if err := v.RemoveVSMB(ctx, dir); err != nil {
		t.Error(err)
	}
	v.shared("Remove s1; Remove s1")
	if p, err := v.GetVSMBUvmPath(ctx, dir); p != w.UVMPath() || err != nil {
		t.Error(p, err)
	}
	if err := w.Release(ctx); err != nil {
		t.Error(err)
	}
	v.shared("Remove m1")
	if err := v.RemoveVSMB(ctx, dir); err != uvm.ErrNotAttached {
		t.Error(err)
	}
	if err := b.Release(ctx); err != uvm.ErrNotAttached { // RemoveVSMB has taken it
		t.Error(err)
	}
	if _, err := v.GetVSMBUvmPath(ctx, dir); err != uvm.ErrNotAttached {
		t.Error(err)
	}
	if _, err := v.GetVSMBUvmPath(ctx, ""); err == nil {
		t.Error("found nothing")
	}
	if _, err := v.AddVSMB(ctx, dir, nil, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestVSMBFiles(t *testing.T) {
	v := startWindows(t, windowsSetup{})
	ctx := t.Context()
	dir := t.TempDir()
	file := func(name string) string { return writeFile(t, filepath.Join(dir, name), 1) }
	a, b, c := file("a"), file("b"), file("c")
	readOnly := hcsschema.VirtualSmbShareOptions{ReadOnly: true}
	a1, a2 := v.share(a, readOnly), v.share(a, readOnly)
	b1 := v.share(b, readOnly)
	v.shared("Add s1 a; Update s1 a,b")
	whole := v.share(dir, readOnly) // a share of its own
	cw, err := v.AddVSMB(ctx, c, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	v.shared("Add s2; Add m1 c")
	if b1.UVMPath() != vsmbShare+`s1\b` || cw.UVMPath() != vsmbShare+`m1\c` || whole.UVMPath() != vsmbShare+"s2" {
		t.Error(b1.UVMPath(), cw.UVMPath(), whole.UVMPath())
	}
	if p, err := v.GetVSMBUvmPath(ctx, b); p != b1.UVMPath() || err != nil {
		t.Error(p, err)
	}
	// The list cannot be changed: nothing is shared, or taken.
	v.hook.fail(hcstest.OpModify)
	if _, err := v.AddVSMB(ctx, c, nil, &readOnly); !errors.Is(err, errBoom) {
		t.Error(err)
	}
	if err := b1.Release(ctx); !errors.Is(err, errBoom) {
		t.Error(err)
	}
	v.hook.set(nil)
	v.shared("Update s1 a,b,c; Update s1 a")
	if err := v.RemoveVSMB(ctx, filepath.Join(dir, "d")); err != uvm.ErrNotAttached {
		t.Error(err)
	}
	if err := errors.Join(a1.Release(ctx), b1.Release(ctx)); err != nil {
		t.Error(err)
	}
	v.shared("Update s1 a")
	if err := v.RemoveVSMB(ctx, b); err != uvm.ErrNotAttached { // a still uses the share
		t.Error(err)
	}
	if _, err := v.GetVSMBUvmPath(ctx, b); err != uvm.ErrNotAttached {
		t.Error(err)
	}
	if err := errors.Join(a2.Release(ctx), cw.Release(ctx), whole.Release(ctx)); err != nil {
		t.Error(err)
	}
	v.shared("Remove s1; Remove m1; Remove s2")
	v.share(b, readOnly)
	v.shared("Add s3 b")
}

// Those who share at once share one, and a failure leaves nothing.
func TestVSMBTogether(t *testing.T) {
	v := startWindows(t, windowsSetup{})
	ctx := t.Context()
	dir := t.TempDir()
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			p := dir
			if i%2 == 0 {
				p = filepath.Join(dir, fmt.Sprint(i%4))
				if err := os.WriteFile(p, nil, 0o600); err != nil {
					t.Error(err)
				}
			}
			s, err := v.AddVSMB(ctx, p, nil, nil)
			if err == nil {
				err = s.Release(ctx)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for path := range v.system().Devices() {
		if strings.HasPrefix(path, hcs.PathVSMB) && path != hcs.PathVSMB+"#os" {
			t.Errorf("left %s", path)
		}
	}
	v.hook.set(func(_ context.Context, c hcstest.Call) error {
		if c.Op == hcstest.OpModify {
			return errBoom
		}
		return nil
	})
	if _, err := v.AddVSMB(ctx, dir, nil, nil); !errors.Is(err, errBoom) {
		t.Error(err)
	}
	if err := v.RemoveVSMB(ctx, dir); err != uvm.ErrNotAttached {
		t.Error(err)
	}
}
