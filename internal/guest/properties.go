//go:build linux

package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/bridge"
	"github.com/byrevm/byre/internal/guest/cgroup"
)

// maxListed keeps a process list within one answer.
const maxListed = 2000

// properties returns a container's processes and figures.
func (a *agent) properties(ctx context.Context, req *bridge.GetPropertiesRequest) (*bridge.GetPropertiesResponse, error) {
	if req.ContainerID == bridge.NilContainer {
		return nil, errors.New("the machine itself has no properties")
	}
	c, err := a.container(req.ContainerID)
	if err != nil {
		return nil, err
	}
	var q hcsschema.PropertyQuery
	if err := req.Query.Decode(&q); err != nil {
		return nil, err
	}
	// Only what was asked for is there, also for hosts that tell an empty
	// list from none.
	answer := make(map[string]any)
	for _, t := range q.PropertyTypes {
		switch t {
		case hcsschema.PTProcessList:
			pids, err := cgroup.Processes(c.id)
			if err != nil {
				return nil, fmt.Errorf("listing processes of %s: %w", c.id, err)
			}
			list := make([]hcsschema.ProcessDetails, 0, len(pids))
			for _, pid := range pids[:min(len(pids), maxListed)] {
				list = append(list, hcsschema.ProcessDetails{ProcessId: uint32(pid)})
			}
			answer["ProcessList"] = list
		case hcsschema.PTStatistics:
			m, err := cgroup.Metrics(c.id)
			if errors.Is(err, os.ErrNotExist) {
				err = fmt.Errorf("%w: %w", bridge.ErrInvalidState, err)
			}
			if err != nil {
				return nil, fmt.Errorf("figures of %s: %w", c.id, err)
			}
			answer["LCOWMetrics"] = m
		}
	}
	p, err := bridge.Quote(answer)
	return &bridge.GetPropertiesResponse{Properties: p}, err
}

// maxStacks is how long the text may be as a JSON string.
const maxStacks = maxAnswer - 4<<10

// dumpStacks returns the stacks of all goroutines.
func (a *agent) dumpStacks(ctx context.Context, req *bridge.Request) (*bridge.DumpStacksResponse, error) {
	b := make([]byte, 1<<20)
	b = b[:runtime.Stack(b, true)]
	for {
		q, err := json.Marshal(string(b))
		if err != nil {
			return nil, err
		}
		if len(q) <= maxStacks {
			return &bridge.DumpStacksResponse{GuestStacks: string(b)}, nil
		}
		b = b[:len(b)*maxStacks/(len(q)+1)]
	}
}
