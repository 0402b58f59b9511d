//go:build linux

package guest

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/bridge"
	"github.com/byrevm/byre/internal/guest/oci"
	"github.com/byrevm/byre/internal/guest/runc"
	"github.com/byrevm/byre/internal/guest/stdio"
)

// execute starts a process: in the machine, a container's init, or one more in
// a container.
func (a *agent) execute(ctx context.Context, req *bridge.ExecuteProcessRequest) (*bridge.ExecuteProcessResponse, error) {
	var params hcsschema.LinuxProcessParameters
	if err := req.Settings.ProcessParameters.Decode(&params); err != nil {
		return nil, err
	}
	ports := portsOf(params, req.Settings.Vsock)
	var p *process
	var err error
	if req.ContainerID == bridge.NilContainer || params.CreateInUtilityVm {
		p, err = a.executeHere(ctx, req.ContainerID, params, ports)
	} else {
		var c *container
		if c, err = a.container(req.ContainerID); err != nil {
			return nil, err
		}
		if len(params.OciProcess) == 0 || string(params.OciProcess) == "null" {
			p, err = c.startInit(ctx, ports)
		} else {
			p, err = c.execute(ctx, params.OciProcess, ports)
		}
	}
	if err != nil {
		return nil, err
	}
	a.log.DebugContext(ctx, "process started", "cid", req.ContainerID, "pid", p.pid)
	return &bridge.ExecuteProcessResponse{ProcessID: p.pid}, nil
}

// portsOf returns the ports of the streams that the host asks for.
func portsOf(params hcsschema.LinuxProcessParameters, v *bridge.StdioPorts) stdio.Ports {
	var p stdio.Ports
	if v == nil {
		return p
	}
	if params.CreateStdInPipe {
		p.In = v.In
	}
	if params.CreateStdOutPipe {
		p.Out = v.Out
	}
	if params.CreateStdErrPipe {
		p.Err = v.Err
	}
	return p
}

// startInit connects init's streams and lets it run.
func (c *container) startInit(ctx context.Context, ports stdio.Ports) (*process, error) {
	c.mu.Lock()
	if c.started {
		c.mu.Unlock()
		return nil, fmt.Errorf("container %s has been started: %w", c.id, bridge.ErrInvalidState)
	}
	c.started = true
	c.mu.Unlock()
	p, err := c.runInit(ctx, ports)
	if err != nil {
		// A container whose init could not be started is of no use.
		c.child.Signal(unix.SIGKILL)
		go c.failed()
		return nil, fmt.Errorf("starting container %s: %w", c.id, programError(err))
	}
	return p, nil
}

func (c *container) runInit(ctx context.Context, ports stdio.Ports) (*process, error) {
	conns, err := stdio.Dial(ctx, ports, c.a.dial)
	if err != nil {
		return nil, err
	}
	if err := c.a.runtime.Start(ctx, c.id, c.child); err != nil {
		conns.Close()
		return nil, err
	}
	p := &process{cid: c.id, container: c, init: true, child: c.child, io: c.io}
	if err := c.a.register(p, func() { c.io.Start(conns) }); err != nil {
		conns.Close()
		return nil, err
	}
	return p, nil
}

// execute adds a process to a running container.
func (c *container) execute(ctx context.Context, raw json.RawMessage, ports stdio.Ports) (*process, error) {
	a := c.a
	var spec specs.Process
	if err := json.Unmarshal(raw, &spec); err != nil {
		return nil, fmt.Errorf("%w: %w", bridge.ErrInvalidJSON, err)
	}
	if err := oci.CheckProcess(&spec); err != nil {
		return nil, err
	}
	c.mu.Lock()
	running := c.started && !c.ended
	c.mu.Unlock()
	if !running {
		return nil, fmt.Errorf("container %s is not running: %w", c.id, bridge.ErrInvalidState)
	}
	if name := spec.User.Username; name != "" {
		if err := oci.SetUser(&spec, c.oci.Spec.Root.Path, name); err != nil {
			return nil, err
		}
	}
	b, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	conns, err := stdio.Dial(ctx, ports, a.dial)
	if err != nil {
		return nil, err
	}
	o, err := newOffer(spec.Terminal, a.log)
	if err != nil {
		conns.Close()
		return nil, err
	}
	child, err := a.runtime.Exec(ctx, c.id, b, o.io())
	if err != nil {
		o.abandon()
		conns.Close()
		return nil, fmt.Errorf("running a process in container %s: %w", c.id, programError(err))
	}
	io := o.taken()
	p := &process{cid: c.id, container: c, child: child, io: io}
	if err := a.register(p, func() { io.Start(conns) }); err != nil {
		child.Signal(unix.SIGKILL)
		o.abandon()
		conns.Close()
		return nil, err
	}
	return p, nil
}

// An offer is the standard streams that a new process is given: a terminal, or
// pipes.
type offer struct {
	log   *slog.Logger
	pipes *stdio.Pipes
	term  *stdio.Terminal // once the runtime has made it
}

func newOffer(terminal bool, log *slog.Logger) (*offer, error) {
	o := &offer{log: log}
	var err error
	if !terminal {
		o.pipes, err = stdio.NewPipes(log)
	}
	return o, err
}

func (o *offer) io() runc.IO {
	if o.pipes != nil {
		return runc.IO{Files: o.pipes.Child()}
	}
	return runc.IO{Terminal: func(master int) error {
		o.term = stdio.NewTerminal(master, o.log)
		return nil
	}}
}

// taken returns our side of the streams of a process that has its own.
func (o *offer) taken() pendingStdio {
	if o.pipes != nil {
		o.pipes.CloseChild()
		return o.pipes
	}
	return o.term
}

// abandon closes streams that no process has.
func (o *offer) abandon() {
	if o.pipes != nil {
		o.pipes.Abandon()
	}
	if o.term != nil {
		o.term.Abandon()
	}
}
