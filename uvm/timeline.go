package uvm

import (
	"slices"
	"sync"
	"time"

	"github.com/byrevm/byre/hcs"
)

// The stages of a VM's start, as [UtilityVM.Timeline] and [StartError] name
// them.
const (
	StageCreate = "create" // the engine makes the system
	StageVMM    = "vmm"    // the engine starts it
	StageKernel = "kernel" // from there until the guest's init program connects
	StageInit   = "init"   // from there until the guest's output connects
	StageAgent  = "agent"  // from there until the agent connects
	StageBridge = "bridge" // the agent and the host agree on a protocol
)

// A timeline collects stages. The zero value is ready to use.
type timeline struct {
	mu     sync.Mutex
	stages []hcs.Stage
}

// add adds the stage that lasted from start to end. One that was over before
// it could begin took no time.
func (t *timeline) add(name string, start, end time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stages = append(t.stages, hcs.Stage{Name: name, At: start, Took: max(0, end.Sub(start))})
}

func (t *timeline) all() []hcs.Stage {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.stages)
}

// Timeline returns the stages that creating and starting the VM has gone
// through, those of the engine included, in the order in which they began.
func (vm *UtilityVM) Timeline() []hcs.Stage {
	stages := vm.times.all()
	if t, ok := vm.sys.(hcs.Timeliner); ok {
		stages = append(stages, t.Timeline()...)
	}
	slices.SortStableFunc(stages, func(a, b hcs.Stage) int { return a.At.Compare(b.At) })
	return stages
}
