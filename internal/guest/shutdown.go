//go:build linux

package guest

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/bridge"
	"github.com/byrevm/byre/internal/guest/boot"
	"github.com/byrevm/byre/internal/guest/storage"
)

// grace is how long containers have to end when the machine is shut down.
const grace = 5 * time.Second

func (a *agent) shutdownGraceful(ctx context.Context, req *bridge.Request) (*bridge.Response, error) {
	return a.shutdown(ctx, req.ContainerID, unix.SIGTERM)
}

func (a *agent) shutdownForced(ctx context.Context, req *bridge.Request) (*bridge.Response, error) {
	return a.shutdown(ctx, req.ContainerID, unix.SIGKILL)
}

// shutdown asks a container to end, or makes it, or stops the machine, which
// is not answered. A container that has ended already is as asked for.
func (a *agent) shutdown(ctx context.Context, id string, sig syscall.Signal) (*bridge.Response, error) {
	if id == bridge.NilContainer {
		a.stopMachine(sig == unix.SIGTERM)
		return nil, bridge.ErrNoResponse
	}
	c, err := a.container(id)
	if err != nil {
		return nil, err
	}
	c.noteSignal(sig)
	if err := c.child.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return nil, err
	}
	return nil, nil
}

// stopMachine ends the containers, saves what is not written yet, and turns
// the machine off. It returns only when another call does that already.
func (a *agent) stopMachine(gently bool) {
	a.mu.Lock()
	again := a.stopping
	a.stopping = true
	var running []*container
	for _, c := range a.containers {
		if c.made {
			running = append(running, c)
		}
	}
	a.mu.Unlock()
	if again {
		return
	}
	a.log.Info("machine is shut down", "containers", len(running), "gently", gently)
	if gently {
		endAll(running, unix.SIGTERM, grace)
	}
	endAll(running, unix.SIGKILL, grace)
	if err := errors.Join(storage.UnmountBeneath("/run/gcs"), storage.UnmountBeneath("/run/mounts")); err != nil {
		a.log.Warn("not everything was unmounted", "err", err)
	}
	if err := boot.PowerOff(); err != nil {
		a.log.Error("machine cannot be turned off", "err", err)
	}
}

// endAll sends a signal to the init of every container and waits for a time
// until all have ended.
func endAll(all []*container, sig syscall.Signal, for_ time.Duration) {
	timeout := time.NewTimer(for_)
	defer timeout.Stop()
	for _, c := range all {
		c.child.Signal(sig)
	}
	for _, c := range all {
		select {
		case <-c.child.Done():
		case <-timeout.C:
			return
		}
	}
}
