package golden

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcs/hcstest"
	"github.com/byrevm/byre/schema1"
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

	// begin tells which step comes, for the script of failures. A bench of
	// another package embeds one of this.
	begin(step int)
}

// Memory returns a bench with the engine of package hcstest.
func Memory(t testing.TB, rec *Recording) Bench {
	m := &memory{guest: &hcstest.Guest{HostMessages: true}}
	if !rec.external(t) {
		m.guest.Capabilities = rec.capabilities(t)
	}
	m.engine = hcstest.New(hcstest.Config{
		Host: rec.Host(),
		Boot: m.guest.Boot,
		Hook: m.script(t, rec),
	})
	return m
}

type memory struct {
	engine *hcstest.Engine
	guest  *hcstest.Guest

	mu             sync.Mutex
	step, modifies int // the step, and the requests to the host in it so far; guarded by mu
}

// begin tells the bench which step comes.
func (m *memory) begin(step int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.step, m.modifies = step, 0
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

// script returns the hook for the script of failures of a recording:
// "Call:nth:hresult". Of the modifications of the host the nth that was recorded
// is meant: where a rule expects fewer of them it is another one here.
func (m *memory) script(t testing.TB, rec *Recording) func(context.Context, hcstest.Call) error {
	s := rec.Fake["FAKEHCS_FAIL"]
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
	failure := fmt.Errorf("scripted failure %s", f[2])
	if op == hcstest.OpModify {
		return func(_ context.Context, c hcstest.Call) error {
			if c.Op != op {
				return nil
			}
			m.mu.Lock()
			defer m.mu.Unlock()
			if m.modifies++; rec.refuses(m.step, m.modifies) {
				return failure
			}
			return nil
		}
	}
	if op == hcstest.OpCreated { // the query with which the reference ends the creation
		nth = 1
	}
	return hcstest.FailNth(op, nth, failure)
}

// refuses reports whether the script lets the nth modification of the host in a
// step fail.
func (rec *Recording) refuses(step, nth int) bool {
	f := strings.Split(rec.Fake["FAKEHCS_FAIL"], ":")
	if len(f) != 3 || f[0] != "HcsModifyComputeSystem" {
		return false
	}
	if f[1] == "0" {
		return true
	}
	all, inStep := 0, 0
	for _, c := range rec.Calls {
		if c.Call != f[0] {
			continue
		}
		all++
		if c.Step == step {
			inStep++
		}
		if strconv.Itoa(all) == f[1] {
			return c.Step == step && inStep == nth
		}
	}
	return false
}

// external reports whether the stand-in guest has the connection, whose
// capabilities do not change.
func (rec *Recording) external(t testing.TB) bool {
	var o struct{ ExternalGuestConnection bool }
	if err := json.Unmarshal(rec.Options, &o); err != nil {
		t.Fatal(err)
	}
	return o.ExternalGuestConnection
}

// capabilities are those of the guest of an internal connection: an object of
// package schema1, or names.
func (rec *Recording) capabilities(t testing.TB) *schema1.GuestDefinedCapabilities {
	s, ok := rec.Fake["FAKEHCS_CAPS"]
	if !ok {
		return nil
	}
	caps := new(schema1.GuestDefinedCapabilities)
	if !strings.HasPrefix(strings.TrimSpace(s), "{") {
		set := map[string]bool{}
		for _, name := range strings.FieldsFunc(s, func(r rune) bool { return !unicode.IsLetter(r) }) {
			set[name] = true
		}
		b, _ := json.Marshal(set)
		s = string(b)
	}
	all := struct {
		*schema1.GuestDefinedCapabilities
		Inner *schema1.GuestDefinedCapabilities `json:"GuestDefinedCapabilities"`
	}{caps, caps}
	if err := json.Unmarshal([]byte(s), &all); err != nil {
		t.Fatalf("capabilities %q: %v", s, err)
	}
	return caps
}
