package hcstest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/bridge"
	"github.com/byrevm/byre/schema1"
)

// A Guest is the software of a machine: an agent that speaks the real
// protocol and keeps everything in memory. It takes part in the boot as the
// real ones do: a Linux guest reads entropy and opens its log, if the host
// listens, then it connects the bridge. One Guest may be the Boot of many
// systems. The zero value is a guest whose every process is [Echo](0).
type Guest struct {
	// OS is "linux" or "windows"; "" is what the document is for.
	OS string

	// Capabilities is what the agent can do; nil is everything.
	Capabilities *schema1.GuestDefinedCapabilities

	// HostMessages asks the host to create and start the machine's own
	// container.
	HostMessages bool

	// Program is what a process runs; nil is Echo(0).
	Program Program

	// Log is written to the log service, a line each.
	Log []string

	// Fault makes the agent misbehave after it has sent FaultAfter messages;
	// 0 is before it has answered at all.
	Fault      Fault
	FaultAfter int

	mu     sync.Mutex
	agents map[string]*agent // by system
}

// Boot is a [Config] Boot function.
func (g *Guest) Boot(m *Machine) {
	a := &agent{
		g: g, m: m, os: g.OS,
		containers: make(map[string]*guestContainer),
		processes:  make(map[uint32]*guestProcess),
		resources:  make(map[string]json.RawMessage),
		nextPid:    42,
	}
	if a.os == "" {
		a.os = m.OS()
	}
	g.mu.Lock()
	if g.agents == nil {
		g.agents = make(map[string]*agent)
	}
	g.agents[m.ID()] = a
	g.mu.Unlock()
	a.boot()
}

func (g *Guest) agent(system string) *agent {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.agents[system]
}

// Resources returns what the guest of a system has been given and not been
// relieved of: the settings by resource type and path or id, as in
// "MappedVirtualDisk /run/mounts/m0".
func (g *Guest) Resources(system string) map[string]json.RawMessage {
	a := g.agent(system)
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.resources)
}

// Containers returns the ids of the containers that the guest of a system
// knows, sorted.
func (g *Guest) Containers(system string) []string {
	a := g.agent(system)
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Sorted(maps.Keys(a.containers))
}

// Processes returns how many processes run in the guest of a system.
func (g *Guest) Processes(system string) int {
	a := g.agent(system)
	if a == nil {
		return 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, p := range a.processes {
		if !p.exited() {
			n++
		}
	}
	return n
}

// Entropy returns how many bytes of entropy the guest of a system has got.
func (g *Guest) Entropy(system string) int64 {
	a := g.agent(system)
	if a == nil {
		return 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.entropy
}

// An agent is a guest in one system.
type agent struct {
	g  *Guest
	m  *Machine
	os string
	s  *bridge.Server

	mu         sync.Mutex
	containers map[string]*guestContainer
	processes  map[uint32]*guestProcess // until somebody has been told the exit
	resources  map[string]json.RawMessage
	nextPid    uint32
	entropy    int64
}

func (a *agent) boot() {
	ctx := a.m.Context()
	service := hcs.WindowsBridge
	if a.os == "linux" {
		service = hcs.VsockServiceID(hcs.BridgePort)
		a.readEntropy()
		if log, err := a.m.Dial(hcs.VsockServiceID(hcs.LogPort)); err == nil {
			defer log.Close()
			for _, l := range a.g.Log {
				fmt.Fprintln(log, l)
			}
		}
	}
	if a.g.Fault == FaultNeverConnect {
		<-ctx.Done()
		return
	}
	conn, err := a.m.Dial(service)
	if err != nil { // nobody waits for an agent
		<-ctx.Done()
		return
	}
	a.s = a.server()
	_ = a.s.Serve(ctx, a.faulty(conn)) // however it ends
	<-ctx.Done()
}

func (a *agent) readEntropy() {
	conn, err := a.m.Dial(hcs.VsockServiceID(hcs.EntropyPort))
	if err != nil {
		return
	}
	defer conn.Close()
	n, _ := io.Copy(io.Discard, conn)
	a.mu.Lock()
	a.entropy = n
	a.mu.Unlock()
}

func (a *agent) server() *bridge.Server {
	caps := bridge.Capabilities{
		SendHostCreateMessage:    a.g.HostMessages,
		SendHostStartMessage:     a.g.HostMessages,
		HvSocketConfigOnStartup:  a.g.HostMessages,
		SupportedSchemaVersions:  []hcsschema.Version{*hcsschema.SchemaV21()},
		RuntimeOSType:            map[string]string{"linux": "Linux", "windows": "Windows"}[a.os],
		GuestDefinedCapabilities: allCapabilities,
	}
	if c := a.g.Capabilities; c != nil {
		caps.GuestDefinedCapabilities = *c
	}
	s := bridge.NewServer(bridge.ServerConfig{
		Capabilities: caps,
		Observe: func(msg bridge.Message) {
			if !msg.Sent {
				a.m.Note("bridge:"+msg.Type.String(), slices.Clone(msg.Body))
			}
		},
	})
	handle(a, s, bridge.Create, a.create)
	handle(a, s, bridge.Start, a.start)
	handle(a, s, bridge.ShutdownGraceful, a.shutdown(sigTerm, bridge.NotifyGracefulExit))
	handle(a, s, bridge.ShutdownForced, a.shutdown(sigKill, bridge.NotifyForcedExit))
	handle(a, s, bridge.ExecuteProcess, a.exec)
	handle(a, s, bridge.WaitForProcess, a.wait)
	handle(a, s, bridge.SignalProcess, a.signal)
	handle(a, s, bridge.ResizeConsole, a.resize)
	handle(a, s, bridge.GetProperties, a.properties)
	handle(a, s, bridge.ModifySettings, a.modify)
	handle(a, s, bridge.DumpStacks, a.dumpStacks)
	handle(a, s, bridge.DeleteContainerState, a.deleteState)
	return s
}

// handle registers a handler that asks the engine's hook first.
func handle[Req, Resp any](a *agent, s *bridge.Server, rpc bridge.RPC[Req, Resp], f func(context.Context, *Req) (*Resp, error)) {
	bridge.Handle(s, rpc, func(ctx context.Context, req *Req) (*Resp, error) {
		body, err := json.Marshal(req)
		if err != nil {
			return nil, err
		}
		if err := a.m.Ask(ctx, "bridge:"+rpc.Type.String(), body); err != nil {
			return nil, err
		}
		return f(ctx, req)
	})
}

func (a *agent) dumpStacks(context.Context, *bridge.Request) (*bridge.DumpStacksResponse, error) {
	return &bridge.DumpStacksResponse{GuestStacks: "fake stacks"}, nil
}

func (a *agent) modify(_ context.Context, r *bridge.ModifySettingsRequest) (*bridge.Response, error) {
	var req struct {
		RequestType  hcsschema.RequestType
		ResourceType hcsschema.ResourceType
		Settings     json.RawMessage
	}
	if err := json.Unmarshal(r.Settings, &req); err != nil {
		return nil, fmt.Errorf("%w: %w", bridge.ErrInvalidJSON, err)
	}
	var s struct {
		MountPath, ContainerPath, ContainerRootPath, VMBusGUID, AdapterId, AdapterInstanceId, ID string
		Controller, Lun, DeviceNumber                                                            int
	}
	if len(req.Settings) > 0 {
		if err := json.Unmarshal(req.Settings, &s); err != nil {
			return nil, fmt.Errorf("%w: %w", bridge.ErrInvalidJSON, err)
		}
	}
	var name, needs string // of the resource; the device that it needs
	switch req.ResourceType {
	case hcsschema.ResourceMappedVirtualDisk:
		name, needs = s.MountPath+s.ContainerPath, hcs.SCSIPath(s.Controller, s.Lun)
		if name == "" {
			return nil, nil
		}
	case hcsschema.ResourceVPMemDevice:
		name, needs = s.MountPath, hcs.VPMemPath(s.DeviceNumber)
	case hcsschema.ResourceMappedDirectory, hcsschema.ResourceMappedPipe:
		name = s.MountPath
	case hcsschema.ResourceCombinedLayers:
		name = s.ContainerRootPath
	case hcsschema.ResourceVPCIDevice:
		name, needs = s.VMBusGUID, hcs.PCIPath(s.VMBusGUID)
	case hcsschema.ResourceNetwork:
		name = s.ID + s.AdapterId + s.AdapterInstanceId
	case hcsschema.ResourceNetworkNamespace, hcsschema.ResourceHvSocket:
		name = s.ID
	case "": // what the reference sends to remove a NIC of a Windows guest
		if a.os != "windows" {
			return nil, fmt.Errorf("%w: no ResourceType", bridge.ErrFail)
		}
		req.ResourceType, name = hcsschema.ResourceNetwork, s.AdapterId+s.AdapterInstanceId
	default:
		return nil, fmt.Errorf("%w: ResourceType %q", bridge.ErrFail, req.ResourceType)
	}
	key := string(req.ResourceType) + " " + name
	if req.RequestType == hcsschema.Remove {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.resources, key)
		return nil, nil
	}
	if needs != "" && !a.m.Attached(needs) {
		return nil, fmt.Errorf("%w: no device at %s", bridge.ErrFail, needs)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.resources[key] = req.Settings
	return nil, nil
}
