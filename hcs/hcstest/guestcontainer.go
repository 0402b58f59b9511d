package hcstest

import (
	"context"
	"fmt"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/bridge"
)

// A guestContainer is in agent.containers until its state is deleted.
type guestContainer struct {
	id       string
	args     []string      // of its init, as its specification has them
	init     *guestProcess // nil before it has been started; Linux only
	ended    bool
	exitType bridge.NotificationType
}

// container returns a container. a.mu is held.
func (a *agent) container(id string) (*guestContainer, error) {
	c := a.containers[id]
	if c == nil {
		return nil, fmt.Errorf("%w: %s", bridge.ErrNoContainer, id)
	}
	return c, nil
}

func (a *agent) create(_ context.Context, r *bridge.CreateRequest) (*bridge.Response, error) {
	if r.ContainerID == bridge.NilContainer {
		return nil, nil
	}
	var doc struct {
		OciSpecification struct {
			Process struct{ Args []string }
		}
	}
	if a.os == "linux" {
		if err := r.Config.Decode(&doc); err != nil {
			return nil, fmt.Errorf("%w: %w", bridge.ErrInvalidJSON, err)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.containers[r.ContainerID] != nil {
		return nil, fmt.Errorf("%w: %s", bridge.ErrContainerExists, r.ContainerID)
	}
	a.containers[r.ContainerID] = &guestContainer{
		id: r.ContainerID, args: doc.OciSpecification.Process.Args, exitType: bridge.NotifyUnexpectedExit,
	}
	return nil, nil
}

func (a *agent) start(_ context.Context, r *bridge.Request) (*bridge.Response, error) {
	if r.ContainerID == bridge.NilContainer {
		return nil, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	_, err := a.container(r.ContainerID)
	return nil, err
}

// shutdown ends a container: by a signal to its init, or at once if none
// runs. It powers the machine off without an answer.
func (a *agent) shutdown(sig int, t bridge.NotificationType) func(context.Context, *bridge.Request) (*bridge.Response, error) {
	return func(ctx context.Context, r *bridge.Request) (*bridge.Response, error) {
		if r.ContainerID == bridge.NilContainer {
			a.m.Exit(&hcs.Exit{Kind: hcs.ExitGuest})
			return nil, bridge.ErrNoResponse
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		c, err := a.container(r.ContainerID)
		if err != nil {
			return nil, err
		}
		if c.ended {
			return nil, fmt.Errorf("%w: %s", bridge.ErrContainerStopped, c.id)
		}
		c.exitType = t
		if c.init != nil {
			c.init.kill(sig)
			return nil, nil
		}
		c.ended = true
		for _, p := range a.processes {
			if p.cid == c.id {
				p.kill(sigKill)
			}
		}
		bridge.AfterResponse(ctx, func() { a.s.Notify(bridge.Exited(c.id, t)) })
		return nil, nil
	}
}

// initExited ends the other processes of a container and tells the host, once
// it knows the exit code.
func (a *agent) initExited(c *guestContainer) {
	a.mu.Lock()
	c.ended = true
	t := c.exitType
	for _, p := range a.processes {
		if p.cid == c.id && p != c.init {
			p.kill(sigKill)
		}
	}
	a.mu.Unlock()
	select {
	case <-c.init.told:
		a.s.Notify(bridge.Exited(c.id, t)) // fails if the bridge is gone
	case <-a.m.Context().Done():
	}
}

func (a *agent) deleteState(_ context.Context, r *bridge.Request) (*bridge.Response, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c, err := a.container(r.ContainerID)
	if err != nil {
		return nil, err
	}
	if c.init != nil && !c.ended {
		return nil, fmt.Errorf("%w: %s runs", bridge.ErrInvalidState, c.id)
	}
	delete(a.containers, c.id)
	return nil, nil
}

func (a *agent) properties(_ context.Context, r *bridge.GetPropertiesRequest) (*bridge.GetPropertiesResponse, error) {
	var q hcsschema.PropertyQuery
	if err := r.Query.Decode(&q); err != nil {
		return nil, err
	}
	var p hcsschema.Properties
	a.mu.Lock()
	_, err := a.container(r.ContainerID)
	for _, t := range q.PropertyTypes {
		if t != hcsschema.PTProcessList {
			continue
		}
		for pid, proc := range a.processes {
			if proc.cid == r.ContainerID && !proc.exited() {
				p.ProcessList = append(p.ProcessList, hcsschema.ProcessDetails{ProcessId: pid})
			}
		}
	}
	a.mu.Unlock()
	if err != nil {
		return nil, err
	}
	b, err := bridge.Quote(p)
	if err != nil {
		return nil, err
	}
	return &bridge.GetPropertiesResponse{Properties: b}, nil
}
