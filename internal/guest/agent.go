//go:build linux

package guest

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/bridge"
	"github.com/byrevm/byre/internal/guest/boot"
	"github.com/byrevm/byre/internal/guest/cgroup"
	"github.com/byrevm/byre/internal/guest/network"
	"github.com/byrevm/byre/internal/guest/pipes"
	"github.com/byrevm/byre/internal/guest/runc"
	"github.com/byrevm/byre/internal/guest/stdio"
	"github.com/byrevm/byre/internal/guest/storage"
	"github.com/byrevm/byre/internal/pipe"
	"github.com/byrevm/byre/schema1"
)

type streamConn = stdio.Conn

// config is what an agent is made of.
type config struct {
	env     *boot.Env
	log     *slog.Logger
	reserve uint64 // memory that containers cannot have
	only9P  bool   // shares are mounted by 9P
	dial    stdio.Dialer
	// cgroups makes the parent of all containers; nil is the machine's own.
	cgroups func() error
}

// maxAnswer is what the reference's host takes for one message.
const maxAnswer = 64 << 10

// Limits of what a host can make the agent keep.
const (
	maxContainers = 1024
	maxProcesses  = 8192
)

// An agent has the machine's containers and processes.
type agent struct {
	config
	server  *bridge.Server
	runtime *runc.Runtime
	nets    network.Namespaces
	pipes   *pipes.Set
	shares  *storage.Shares

	mu         sync.Mutex // guards the maps; a container's mu may be held, not the other way round
	containers map[string]*container
	processes  map[uint32]*process
	stopping   bool
}

func newAgent(c config) *agent {
	a := &agent{
		config:     c,
		containers: make(map[string]*container),
		processes:  make(map[uint32]*process),
		runtime: &runc.Runtime{
			Path:   "/bin/runc",
			Root:   filepath.Join(storage.StateDir, "runc"),
			Temp:   filepath.Join(storage.StateDir, "tmp"),
			Reaper: c.env.Reaper,
		},
	}
	s := bridge.NewServer(bridge.ServerConfig{Logger: c.log, MaxAnswer: maxAnswer, Capabilities: bridge.Capabilities{
		SupportedSchemaVersions: []hcsschema.Version{{Major: 2, Minor: 1}},
		RuntimeOSType:           "Linux",
		GuestDefinedCapabilities: schema1.GuestDefinedCapabilities{
			NamespaceAddRequestSupported:  true,
			SignalProcessSupported:        true,
			DumpStacksSupported:           true,
			DeleteContainerStateSupported: true,
			MappedPipeSupported:           true,
		},
	}})
	a.pipes = pipes.New(a.dialPipe, c.log)
	locks := &lockWatch{dial: a.dialNet, log: c.log}
	a.shares = &storage.Shares{Dial: a.dialNet, Log: c.log, Only9P: c.only9P, Mounted: locks.begin}
	bridge.Handle(s, bridge.Create, a.create)
	bridge.Handle(s, bridge.Start, a.start)
	bridge.Handle(s, bridge.ShutdownGraceful, a.shutdownGraceful)
	bridge.Handle(s, bridge.ShutdownForced, a.shutdownForced)
	bridge.Handle(s, bridge.ExecuteProcess, a.execute)
	bridge.Handle(s, bridge.WaitForProcess, a.wait)
	bridge.Handle(s, bridge.SignalProcess, a.signal)
	bridge.Handle(s, bridge.ResizeConsole, a.resize)
	bridge.Handle(s, bridge.GetProperties, a.properties)
	bridge.Handle(s, bridge.ModifySettings, a.modify)
	bridge.Handle(s, bridge.DumpStacks, a.dumpStacks)
	bridge.Handle(s, bridge.DeleteContainerState, a.deleteState)
	a.server = s
	return a
}

// whenReady logs how the machine's preparation ended; requests wait for it
// themselves.
func (a *agent) whenReady() {
	if err := a.env.Ready(); err != nil {
		a.log.Warn("machine is not all there", "err", err)
	}
	if a.env.Steps != nil {
		a.log.Debug("machine is ready", "steps", a.env.Steps())
	}
}

// ready waits until containers can be made.
func (a *agent) ready() error {
	// What did not work at boot is in the log, and fails again where it is
	// needed.
	_ = a.env.Ready()
	if a.cgroups != nil {
		return a.cgroups()
	}
	return cgroup.Setup(a.reserve)
}

func (a *agent) dialNet(ctx context.Context, port uint32) (net.Conn, error) {
	return a.dial(ctx, port)
}

func (a *agent) dialPipe(ctx context.Context, port uint32) (pipe.Conn, error) {
	return a.dial(ctx, port)
}

// container returns a container by its id.
func (a *agent) container(id string) (*container, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.containers[id]; c != nil && c.made {
		return c, nil
	}
	return nil, fmt.Errorf("container %.80q: %w", id, bridge.ErrNoContainer)
}

// process returns a process by its id and its container's, or
// [bridge.NilContainer].
func (a *agent) process(cid string, pid uint32) (*process, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p := a.processes[pid]; p != nil && p.cid == cid {
		return p, nil
	}
	if c := a.containers[cid]; cid != bridge.NilContainer && (c == nil || !c.made) {
		return nil, fmt.Errorf("container %.80q: %w", cid, bridge.ErrNoContainer)
	}
	return nil, fmt.Errorf("process %d: %w", pid, bridge.ErrElementNotFound)
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return name
}
