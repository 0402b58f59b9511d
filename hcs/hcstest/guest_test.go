package hcstest

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/byrevm/byre/cow"
	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/bridge"
)

func document(t *testing.T, internal, windows bool) hcs.Document {
	vm := &hcsschema.VirtualMachine{Devices: &hcsschema.Devices{
		Scsi:        map[string]hcsschema.Scsi{"0": {}},
		VirtualPMem: &hcsschema.VirtualPMemController{MaximumCount: 4},
	}}
	if internal {
		vm.GuestConnection = &hcsschema.GuestConnection{UseVsock: true}
	}
	if windows {
		vm.Devices.VirtualSmb = &hcsschema.VirtualSmb{}
	}
	doc, err := hcs.NewDocument(&hcsschema.ComputeSystem{SchemaVersion: hcsschema.SchemaV21(), VirtualMachine: vm}, "")
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// boot starts a system and connects to its guest.
func boot(t *testing.T, g *Guest, windows bool) (*System, *bridge.Client) {
	t.Helper()
	s, err := New(Config{Boot: g.Boot}).Create(t.Context(), "vm", document(t, false, windows))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		if l, c := s.(*System).Open(); l != 0 || c != 0 {
			t.Errorf("%d listeners and %d connections left", l, c)
		}
	})
	service := hcs.VsockServiceID(hcs.BridgePort)
	if windows {
		service = hcs.WindowsBridge
	}
	l, err := s.Listen(service)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c, err := bridge.Connect(t.Context(), conn, bridge.Config{Listen: func(port uint32) (net.Listener, error) {
		return s.Listen(hcs.VsockServiceID(port))
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return s.(*System), c
}

func TestGuestContainer(t *testing.T) {
	for _, windows := range []bool{false, true} {
		g := &Guest{Program: Echo(7)}
		_, c := boot(t, g, windows)
		ctr, err := c.CreateContainer(t.Context(), "c1", struct{}{})
		if err != nil {
			t.Fatal(err)
		}
		if err := ctr.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		cmd := &cow.Cmd{Host: ctr, Stdin: strings.NewReader("hello")}
		if windows {
			cmd.Spec = &specs.Process{Args: []string{"echo"}}
		}
		out, err := cmd.Output(t.Context())
		var e *cow.ExitError
		if string(out) != "hello" || !errors.As(err, &e) || e.Code != 7 {
			t.Errorf("got %q, %v", out, err)
		}
		if windows {
			if err := ctr.Terminate(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if err := ctr.Wait(); err != nil {
			t.Error(err)
		}
		if err := c.DeleteContainerState(t.Context(), "c1"); err != nil {
			t.Error(err)
		}
		if l := g.Containers("vm"); len(l) != 0 {
			t.Errorf("containers left: %v", l)
		}
	}
}

func TestInternalConnection(t *testing.T) {
	g := &Guest{Program: Sleep}
	e := New(Config{Boot: g.Boot})
	s, err := e.Create(t.Context(), "vm", document(t, true, false))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	p, err := s.(hcs.Processes).CreateProcess(t.Context(), &hcsschema.ProcessParameters{CommandLine: "x", CreateStdOutPipe: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.ResizeConsole(t.Context(), 100, 40); err != nil {
		t.Error(err)
	}
	if ok, err := p.Signal(t.Context(), hcsschema.SignalProcessOptionsLCOW{Signal: 15}); !ok || err != nil {
		t.Errorf("signal: %v, %v", ok, err)
	}
	_, out, _ := p.Stdio()
	if _, err := io.ReadAll(out); err != nil {
		t.Error(err)
	}
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
	if code, err := p.ExitCode(); code != 143 || err != nil {
		t.Errorf("exit code %d, %v", code, err)
	}
	if ok, err := p.Kill(t.Context()); ok || err != nil {
		t.Errorf("kill: %v, %v", ok, err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	ctr, err := s.(hcs.Hosted).CreateHosted(t.Context(), "c1", hcs.Document(`{"HostingSystemId":"vm","HostedSystem":{}}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(ctr.Start(t.Context()), ctr.Terminate(t.Context()), ctr.Wait(), ctr.Close()); err != nil {
		t.Error(err)
	}
	if info, err := s.Properties(t.Context(), hcsschema.PTGuestConnection); err != nil || info.GuestConnectionInfo.ProtocolVersion != 4 {
		t.Errorf("properties: %+v, %v", info, err)
	}
	add := &hcsschema.ModifySettingRequest{
		RequestType: hcsschema.Add, ResourcePath: hcs.SCSIPath(0, 1), Settings: hcsschema.Attachment{Type: "VirtualDisk", Path: "x"},
		GuestRequest: hcsschema.GuestRequest{RequestType: hcsschema.Add, ResourceType: hcsschema.ResourceMappedVirtualDisk,
			Settings: hcsschema.LCOWMappedVirtualDisk{MountPath: "/m", Lun: 1}},
	}
	if err := s.Modify(t.Context(), add); err != nil {
		t.Error(err)
	}
	if r := g.Resources("vm"); r["MappedVirtualDisk /m"] == nil {
		t.Errorf("resources: %v", r)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	var ops []string
	for _, c := range e.Calls() {
		if !strings.HasPrefix(c.Op, "bridge:") { // has an order of its own
			ops = append(ops, c.Op+" "+c.System)
		}
	}
	got := strings.Join(ops, "\n")
	want := `create vm
start vm
create-process vm
modify-process vm
signal-process vm
kill-process vm
create c1
start c1
terminate c1
close c1
properties vm
modify vm
terminate vm
close vm`
	if got != want {
		t.Errorf("calls:\n%s", got)
	}
}

// Every fault ends the start of a bridge with an error, at once or when the
// caller has waited long enough.
func TestFaults(t *testing.T) {
	for f := FaultNeverConnect; f <= FaultOOM; f++ {
		g := &Guest{Fault: f}
		s, err := New(Config{Boot: g.Boot}).Create(t.Context(), "vm", document(t, false, false))
		if err != nil {
			t.Fatal(err)
		}
		l, err := s.Listen(hcs.VsockServiceID(hcs.BridgePort))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if f == FaultNeverConnect {
			s.Terminate(t.Context())
			if _, err := l.Accept(); err == nil {
				t.Error("the guest connected")
			}
			s.Close()
			continue
		}
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		if f == FaultMute || f == FaultEndless || f == FaultFlood {
			cancel()
		}
		if c, err := bridge.Connect(ctx, conn, bridge.Config{}); err == nil {
			t.Errorf("fault %d: connected", f)
			c.Close()
		}
		cancel()
		s.Close()
	}
}
