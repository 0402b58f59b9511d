//go:build linux

package guest

import (
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/bridge"
	"github.com/byrevm/byre/internal/guest/cgroup"
	"github.com/byrevm/byre/internal/guest/oci"
	"github.com/byrevm/byre/internal/guest/reaper"
	"github.com/byrevm/byre/internal/guest/stdio"
)

// pendingStdio is the standard streams of an init that has not been started:
// pipes or a terminal.
type pendingStdio interface {
	streams
	Start(stdio.Conns)
	Abandon()
}

// A container is one from the host's Create to its DeleteContainerState, or to
// the machine's end.
type container struct {
	a      *agent
	id     string
	made   bool // guarded by agent.mu: Create has succeeded
	bundle string
	oci    *oci.Prepared
	child  *reaper.Child // its init
	io     pendingStdio

	stopOOM func()

	mu       sync.Mutex // guards what follows
	started  bool       // an ExecuteProcess has taken init
	ended    bool       // init has
	deleting bool
	exit     bridge.NotificationType
	notified bool
}

// watchInit waits for the end of an init that the host may never start.
func (c *container) watchInit() {
	<-c.child.Done()
	c.mu.Lock()
	started := c.started
	c.started = true // nobody else may start it now
	c.mu.Unlock()
	if !started { // else its process is watched
		c.failed()
	}
}

// failed ends a container whose init never got to run: the host knows no
// process that it could wait for.
func (c *container) failed() {
	<-c.child.Done()
	c.initEnded()
	c.io.Abandon()
	c.a.notifyExit(c)
}

// initEnded does what the end of init means to the container: nothing of it
// outlives its init, with or without a process namespace of its own.
func (c *container) initEnded() {
	if err := cgroup.Kill(c.id); err != nil {
		c.a.log.Warn("container's processes were not killed", "cid", c.id, "err", err)
	}
	if n := cgroup.OOMKills(c.id); n > 0 {
		c.a.log.Warn("container was out of memory", "cid", c.id, "kills", n)
	}
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	if c.stopOOM != nil {
		c.stopOOM()
	}
}

// noteSignal remembers what the end of init will have been, if the signal ends
// it; the last one wins.
func (c *container) noteSignal(sig syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch sig {
	case unix.SIGTERM:
		c.exit = bridge.NotifyGracefulExit
	case unix.SIGKILL:
		c.exit = bridge.NotifyForcedExit
	}
}

// notifyExit tells the host, once, that a container has ended.
func (a *agent) notifyExit(c *container) {
	c.mu.Lock()
	t, again := c.exit, c.notified
	c.notified = true
	c.mu.Unlock()
	if again {
		return
	}
	if t == "" {
		t = bridge.NotifyUnexpectedExit
	}
	if err := a.server.Notify(bridge.Exited(c.id, t)); err != nil {
		a.log.Warn("host was not told of the container's end", "cid", c.id, "err", err)
	}
	a.log.Info("container exited", "cid", c.id, "type", string(t))
}
