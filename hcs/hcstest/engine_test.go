package hcstest

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

var errScript = errors.New("as the script says")

func TestFailNth(t *testing.T) {
	disk := addDisk(0, "x")
	for _, c := range []struct {
		op   string
		nth  int
		fail string // the step that fails
	}{
		{OpCreate, 1, "create"}, {OpCreated, 1, "create"}, {OpGrantAccess, 1, "grant"}, {OpStart, 1, "start"},
		{OpModify, 1, "add"}, {OpModify, 2, "remove"}, {OpModify, 0, "add"}, {OpProperties, 2, "properties 2"},
		{OpListen, 1, "listen"}, {OpTerminate, 1, "terminate"},
	} {
		e := New(Config{Hook: FailNth(c.op, c.nth, errScript)})
		var s hcs.System
		failed := ""
		for _, st := range []struct {
			name string
			do   func() error
		}{
			{"create", func() (err error) { s, err = e.Create(t.Context(), "vm", document(t, false, false)); return err }},
			{"grant", func() error { return e.GrantAccess(t.Context(), "vm", "x", hcs.AccessVM) }},
			{"listen", func() error { _, err := s.Listen(hcs.VsockServiceID(1)); return err }},
			{"start", func() error { return s.Start(t.Context()) }},
			{"add", func() error { return s.Modify(t.Context(), disk) }},
			{"remove", func() error { return s.Modify(t.Context(), removeDisk(0)) }},
			{"properties", func() error { _, err := s.Properties(t.Context()); return err }},
			{"properties 2", func() error { _, err := s.Properties(t.Context()); return err }},
			{"terminate", func() error { return s.Terminate(t.Context()) }},
		} {
			if err := st.do(); err != nil {
				if failed = st.name; !errors.Is(err, errScript) {
					t.Errorf("%s: %v", st.name, err)
				}
				break
			}
		}
		if failed != c.fail {
			t.Errorf("%s %d: failed at %q, want %q", c.op, c.nth, failed, c.fail)
		}
		calls := e.Calls()
		last := calls[len(calls)-1]
		if c.op == OpCreated { // the system had been made, and was ended
			if last.Op != OpTerminate || last.System != "vm" {
				t.Errorf("last call is %+v", last)
			}
		} else if last.Op != c.op || !errors.Is(last.Err, errScript) {
			t.Errorf("last call is %+v", last)
		}
		if s != nil {
			s.Close()
		}
		if n := e.Systems(); n != 0 {
			t.Errorf("%s: %d systems left", c.op, n)
		}
	}
}

// A guest's request that fails leaves the host's half as it was.
func TestInternalModifyFails(t *testing.T) {
	g := &Guest{}
	e := New(Config{Boot: g.Boot, Hook: FailNth("bridge:ModifySettings", 1, errScript)})
	s, err := e.Create(t.Context(), "vm", document(t, true, false))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	req := addDisk(1, "x")
	req.GuestRequest = hcsschema.GuestRequest{
		RequestType: hcsschema.Add, ResourceType: hcsschema.ResourceMappedVirtualDisk,
		Settings: hcsschema.LCOWMappedVirtualDisk{MountPath: "/m", Lun: 1},
	}
	if err := s.Modify(t.Context(), req); err == nil || !strings.Contains(err.Error(), errScript.Error()) {
		t.Errorf("got %v", err)
	}
	if d := s.(*System).Devices(); len(d) != 0 {
		t.Errorf("devices: %v", d)
	}
	if err := s.Modify(t.Context(), req); err != nil {
		t.Error(err)
	}
	if d := s.(*System).Devices(); string(d[hcs.SCSIPath(0, 1)]) == "" {
		t.Errorf("devices: %v", d)
	}
}

// A hook that blocks ends with the context of the call.
func TestBlockingHook(t *testing.T) {
	e := New(Config{Hook: func(ctx context.Context, c Call) error {
		if c.Op == OpStart {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}})
	s, err := e.Create(t.Context(), "vm", document(t, false, false))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Start(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("start: %v", err)
	}
}

// A Linux guest reads entropy until its end and writes its log before it
// connects the bridge.
func TestGuestBoot(t *testing.T) {
	g := &Guest{Log: []string{`{"msg":"a"}`, `{"msg":"b"}`}}
	s, err := New(Config{Boot: g.Boot}).Create(t.Context(), "vm", document(t, false, false))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	listen := func(port uint32) func() io.ReadWriteCloser {
		l, err := s.Listen(hcs.VsockServiceID(port))
		if err != nil {
			t.Fatal(err)
		}
		return func() io.ReadWriteCloser {
			defer l.Close()
			c, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
	}
	entropy, log, bridge := listen(hcs.EntropyPort), listen(hcs.LogPort), listen(hcs.BridgePort)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := entropy()
	c.Write(make([]byte, 512))
	c.Close()
	c = log()
	b := bridge()
	if n := g.Entropy("vm"); n != 512 {
		t.Errorf("entropy: %d bytes, want 512", n)
	}
	want := "{\"msg\":\"a\"}\n{\"msg\":\"b\"}\n"
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Errorf("log: %q, %v; want %q", got, err, want)
	}
	b.Close()
	c.Close()
}

// A host of the recordings accepts every document: a member of another type is
// recorded, and has no effect. A strict engine refuses it.
func TestOtherTypes(t *testing.T) {
	extra := `{"VirtualMachine":{"ComputeTopology":{"Processor":5},"Devices":{"Scsi":{"0":{}}}},"Unknown":[1]}`
	doc, err := hcs.NewDocument(&hcsschema.ComputeSystem{VirtualMachine: &hcsschema.VirtualMachine{}}, extra)
	if err != nil {
		t.Fatal(err)
	}
	e := New(Config{})
	s, err := e.Create(t.Context(), "vm", doc)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Start(t.Context()), s.Modify(t.Context(), addDisk(0, "x")), s.Close()); err != nil {
		t.Error(err)
	}
	if got := string(e.Calls()[0].Document); !strings.Contains(got, `"Processor":5`) {
		t.Errorf("recorded %s", got)
	}
	if _, err := New(Config{Strict: true}).Create(t.Context(), "vm", doc); err == nil {
		t.Error("a strict engine made it")
	}
}
