package golden

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcs/hcstest"
)

// A Bench is what one recording is replayed on. Its guest behaves as the
// stand-in of the recordings does.
type Bench interface {
	// Engine is the engine under test. It says what [Recording.Host] says,
	// and fails as Recording.Fake tells.
	Engine() hcs.Engine

	// Calls returns what has reached the engine's host and the guest so far,
	// in the words of package hcstest. Of the messages that reach the guest
	// only those of an external connection are looked at.
	Calls() []hcstest.Call

	// Exit ends the system id as if it had happened by itself: 0 is in order.
	Exit(id string, status uint32)

	// Entropy returns how many bytes of entropy the guest of a system got.
	Entropy(id string) int64
}

// Memory returns a bench with the engine of package hcstest.
func Memory(t testing.TB, rec *Recording) Bench {
	m := &memory{guest: &hcstest.Guest{HostMessages: true}}
	m.engine = hcstest.New(hcstest.Config{
		Host: rec.Host(),
		Boot: m.guest.Boot,
		Hook: script(t, rec.Fake["FAKEHCS_FAIL"]),
	})
	return m
}

type memory struct {
	engine *hcstest.Engine
	guest  *hcstest.Guest
}

func (m *memory) Engine() hcs.Engine      { return m.engine }
func (m *memory) Calls() []hcstest.Call   { return m.engine.Calls() }
func (m *memory) Entropy(id string) int64 { return m.guest.Entropy(id) }

func (m *memory) Exit(id string, status uint32) {
	e := &hcs.Exit{Kind: hcs.ExitOther, Code: status}
	switch status {
	case 0:
		e = &hcs.Exit{Kind: hcs.ExitGuest}
	case hcs.CodeUnexpectedExit:
		e.Kind = hcs.ExitVMMCrash
	}
	m.engine.System(id).Exit(e)
}

// script returns the hook for a script of failures: "Call:nth:hresult".
func script(t testing.TB, s string) func(context.Context, hcstest.Call) error {
	if s == "" {
		return nil
	}
	f := strings.Split(s, ":")
	op, ok := map[string]string{
		"HcsCreateComputeSystem":        hcstest.OpCreate,
		"CreateCompleted":               hcstest.OpCreate,
		"HcsGetComputeSystemProperties": hcstest.OpCreated,
		"HcsStartComputeSystem":         hcstest.OpStart,
		"HcsModifyComputeSystem":        hcstest.OpModify,
		"GrantVmAccess":                 hcstest.OpGrantAccess,
	}[f[0]]
	if !ok || len(f) != 3 {
		t.Fatalf("unknown script %q", s)
	}
	nth, err := strconv.Atoi(f[1])
	if err != nil {
		t.Fatal(err)
	}
	if op == hcstest.OpCreated { // the query with which the reference ends the creation
		nth = 1
	}
	return hcstest.FailNth(op, nth, fmt.Errorf("scripted failure %s", f[2]))
}
