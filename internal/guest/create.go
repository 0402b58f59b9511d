//go:build linux

package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/bridge"
	"github.com/byrevm/byre/internal/guest/cgroup"
	"github.com/byrevm/byre/internal/guest/oci"
	"github.com/byrevm/byre/internal/guest/runc"
	"github.com/byrevm/byre/internal/guest/storage"
)

// cleanTime is how long undoing a failed request may take.
const cleanTime = time.Minute

// create makes a container up to its init, which waits to be started.
func (a *agent) create(ctx context.Context, req *bridge.CreateRequest) (*bridge.Response, error) {
	id := req.ContainerID
	if id == bridge.NilContainer {
		return nil, nil // the machine itself, to a host that asks for it
	}
	var doc struct {
		hcsschema.LinuxHostedSystem
		OciSpecification *specs.Spec
	}
	if err := req.Config.Decode(&doc); err != nil {
		return nil, err
	}
	if v := doc.SchemaVersion; v == nil || v.Major < 2 || v.Major == 2 && v.Minor < 1 {
		return nil, fmt.Errorf("%w: a container needs schema version 2.1", bridge.ErrInvalidJSON)
	}
	if doc.OciSpecification == nil {
		return nil, fmt.Errorf("%w: no OciSpecification", bridge.ErrInvalidJSON)
	}
	if err := errors.Join(oci.CheckID(id), storage.CheckPath(doc.OciBundlePath)); err != nil {
		return nil, err
	}
	c := &container{a: a, id: id, bundle: doc.OciBundlePath}
	if err := a.reserveID(c); err != nil {
		return nil, err
	}
	if err := c.make(ctx, doc.OciSpecification); err != nil {
		a.forget(c)
		return nil, fmt.Errorf("creating container %s: %w", id, programError(err))
	}
	a.mu.Lock()
	c.made = true
	a.mu.Unlock()
	go c.watchInit()
	a.log.InfoContext(ctx, "container created", "cid", id, "pid", c.child.PID())
	return nil, nil
}

// programError gives a failure to execute a program the result by which the
// host knows it.
func programError(err error) error {
	switch {
	case errors.Is(err, runc.ErrNoProgram):
		return fmt.Errorf("%w: %w", bridge.ErrFileNotFound, err)
	case errors.Is(err, runc.ErrNotExecutable):
		return fmt.Errorf("%w: %w", bridge.ErrAccessDenied, err)
	}
	return err
}

// reserveID takes an id, so that of two containers with one id one is made.
func (a *agent) reserveID(c *container) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.containers[c.id] != nil {
		return fmt.Errorf("container %s: %w", c.id, bridge.ErrContainerExists)
	}
	if len(a.containers) >= maxContainers {
		return fmt.Errorf("there are %d containers already", maxContainers)
	}
	a.containers[c.id] = c
	return nil
}

func (a *agent) forget(c *container) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.containers, c.id)
	for pid, p := range a.processes {
		if p.container == c {
			delete(a.processes, pid)
		}
	}
}

// make makes the container; on an error nothing is left of it.
func (c *container) make(ctx context.Context, spec *specs.Spec) (err error) {
	a := c.a
	if err := a.ready(); err != nil {
		return err
	}
	if c.oci, err = oci.Prepare(spec, oci.Options{ID: c.id, Hostname: hostname(), DNS: a.nets.DNS, Join: a.nets.Join}); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.removeBundle(), c.oci.Undo())
		}
	}()
	if err := c.writeBundle(spec); err != nil {
		return err
	}
	o, err := newOffer(spec.Process.Terminal, a.log)
	if err != nil {
		return err
	}
	if c.child, err = a.runtime.Create(ctx, c.id, c.bundle, o.io()); err != nil {
		o.abandon()
		return err
	}
	c.io = o.taken()
	stop, err := cgroup.WatchOOM(c.id, func(kills uint64) {
		a.log.Warn("container's process was killed for lack of memory", "cid", c.id, "kills", kills)
	})
	if err != nil {
		a.log.Warn("container is not watched for lack of memory", "cid", c.id, "err", err)
	} else {
		c.stopOOM = stop
	}
	return nil
}

func (c *container) writeBundle(spec *specs.Spec) error {
	b, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	dir, err := storage.MakeDir(c.bundle, 0o700)
	if err != nil {
		return fmt.Errorf("making the bundle: %w", err)
	}
	defer dir.Close()
	return oci.WriteAt(dir, "config.json", b, 0o600)
}

func (c *container) removeBundle() error {
	err := os.Remove(filepath.Join(c.bundle, "config.json"))
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	os.Remove(c.bundle) // it stays when it is a mount, or has more in it
	return err
}

// start does nothing: init is started by the first ExecuteProcess, which has
// its streams.
func (a *agent) start(ctx context.Context, req *bridge.Request) (*bridge.Response, error) {
	if req.ContainerID == bridge.NilContainer {
		return nil, nil
	}
	_, err := a.container(req.ContainerID)
	return nil, err
}

// deleteState removes what is left of a container that has ended.
func (a *agent) deleteState(ctx context.Context, req *bridge.Request) (*bridge.Response, error) {
	c, err := a.container(req.ContainerID)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	switch {
	case !c.ended:
		err = fmt.Errorf("container %s is running: %w", c.id, bridge.ErrInvalidState)
	case c.deleting:
		err = fmt.Errorf("container %s is being deleted: %w", c.id, bridge.ErrInvalidState)
	default:
		c.deleting = true
	}
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if err := c.remove(ctx); err != nil {
		c.mu.Lock()
		c.deleting = false
		c.mu.Unlock()
		return nil, fmt.Errorf("deleting container %s: %w", c.id, err)
	}
	a.forget(c)
	return nil, nil
}

// remove goes on past a failure and can be called again.
func (c *container) remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
	defer cancel()
	return errors.Join(c.a.runtime.Delete(ctx, c.id), c.removeBundle(), c.oci.Undo())
}
