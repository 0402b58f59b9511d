package uvm_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcs/hcstest"
	"github.com/byrevm/byre/test/stress"
	"github.com/byrevm/byre/uvm"
)

// TestStress adds and removes things of every kind from 50 goroutines, while
// calls are called off and one in fifty fails, then ends the VM at a random
// moment. -stress.for=1m makes it longer; -stress.seed repeats one.
func TestStress(t *testing.T) {
	for name, removable := range map[string]bool{"removable": true, "sticky": false} {
		t.Run(name, func(t *testing.T) {
			v := start(t, setup{config: hcstest.Config{Host: hcs.HostInfo{PMemRemovable: removable}}})
			l := stress.Load{
				Workers: 50, For: 2 * time.Second,
				Namespaces: []string{"ns0", "ns1", "ns2"},
				Failure:    func(err error) bool { return err != nil && strings.Contains(err.Error(), errBoom.Error()) },
			}
			for i := range 12 {
				l.Disks = append(l.Disks, fmt.Sprint("disk", i))
				l.Layers = append(l.Layers, v.disk(fmt.Sprint("layer", i)))
				l.Folders = append(l.Folders, fmt.Sprint("folder", i))
				l.Pipes = append(l.Pipes, fmt.Sprintf(`\\.\pipe\%d`, i))
				l.Endpoints = append(l.Endpoints, endpoint(fmt.Sprint("endpoint", i)))
			}
			for _, ns := range l.Namespaces {
				if err := v.AddNetNS(t.Context(), ns); err != nil {
					t.Fatal(err)
				}
			}
			v.hook.set(func(_ context.Context, c hcstest.Call) error {
				if (c.Op == hcstest.OpModify || c.Op == guestModify) && c.Nth%50 == 0 {
					return errBoom
				}
				return nil
			})
			r := stress.New(t, v.UtilityVM, l)
			r.Work(t.Context())
			v.hook.set(nil)
			r.Again(t.Context())
			v.empty()
			r.Kill(t.Context(), func() { v.system().Exit(&hcs.Exit{Kind: hcs.ExitPanic}) })
			if _, err := v.AddSCSI(t.Context(), "another disk", "", true, uvm.VMAccessTypeNoop); !errors.Is(err, hcs.ErrStopped) {
				t.Errorf("got %v, want %v", err, hcs.ErrStopped)
			}
		})
	}
}
