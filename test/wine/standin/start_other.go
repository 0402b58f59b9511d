//go:build !windows

package standin

import (
	"cmp"
	"sync"
	"time"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcs/hcstest"
	"github.com/byrevm/byre/internal/engine/computecore"
)

// Start starts a service of mem that behaves as script says.
func Start(t T, mem *hcstest.Engine, script Script) *Bench {
	t.Helper()
	s := New(mem)
	t.Cleanup(func() {
		if n := s.Handles(); n != 0 {
			t.Errorf("%d handles of the service are open", n)
			return
		}
		s.Wait()
	})
	return &Bench{Service: s, dll: &scripted{Service: s, script: script, counts: make(map[string]int)}}
}

// Count returns how often a function of the DLL was called, or, for "*", any.
func (b *Bench) Count(name string) int {
	s := b.dll.(*scripted)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[name]
}

// otherBuild is the build that an engine is to have.
func otherBuild(h hcs.HostInfo) int { return cmp.Or(h.Build, 19041) }

// scripted is what the DLL is on Windows, as far as a script goes.
type scripted struct {
	*Service
	script Script

	mu     sync.Mutex
	counts map[string]int
}

// Names of the functions, by the call.
var names = map[computecore.Call]string{
	computecore.CallStart:             "HcsStartComputeSystem",
	computecore.CallShutdown:          "HcsShutDownComputeSystem",
	computecore.CallTerminate:         "HcsTerminateComputeSystem",
	computecore.CallModify:            "HcsModifyComputeSystem",
	computecore.CallProperties:        "HcsGetComputeSystemProperties",
	computecore.CallSignalProcess:     "HcsSignalProcess",
	computecore.CallTerminateProcess:  "HcsTerminateProcess",
	computecore.CallModifyProcess:     "HcsModifyProcess",
	computecore.CallProcessProperties: "HcsGetProcessProperties",
}

// begin says how the call of a function fails; 0 if it does not.
func (s *scripted) begin(name string) uint32 {
	s.mu.Lock()
	s.counts[name]++
	s.counts["*"]++
	n, any := s.counts[name], s.counts["*"]
	s.mu.Unlock()
	if s.script.Delay > 0 {
		time.Sleep(s.script.Delay)
	}
	for _, f := range s.script.Fail {
		if f.Call == name && (f.Nth == 0 || f.Nth == n) || f.Call == "*" && f.Nth == any {
			return f.Code
		}
	}
	return 0
}

func (s *scripted) CreateSystem(id, document string) (computecore.Handle, computecore.Result) {
	if c := s.begin("HcsCreateComputeSystem"); c != 0 {
		return 0, failed(c, nil)
	}
	return s.Service.CreateSystem(id, document)
}

func (s *scripted) OpenSystem(id string) (computecore.Handle, computecore.Result) {
	if c := s.begin("HcsOpenComputeSystem"); c != 0 {
		return 0, failed(c, nil)
	}
	return s.Service.OpenSystem(id)
}

func (s *scripted) OnSystem(h computecore.Handle, f func(computecore.Event)) computecore.Result {
	if c := s.begin("HcsSetComputeSystemCallback"); c != 0 {
		return failed(c, nil)
	}
	return s.Service.OnSystem(h, f)
}

func (s *scripted) CallSystem(c computecore.Call, h computecore.Handle, document string) computecore.Result {
	if c := s.begin(names[c]); c != 0 {
		return failed(c, nil)
	}
	return s.Service.CallSystem(c, h, document)
}

func (s *scripted) CreateProcess(h computecore.Handle, parameters string) (computecore.Handle, computecore.ProcessInfo, computecore.Result) {
	if c := s.begin("HcsCreateProcess"); c != 0 {
		return 0, computecore.ProcessInfo{}, failed(c, nil)
	}
	return s.Service.CreateProcess(h, parameters)
}

func (s *scripted) OnProcess(h computecore.Handle, f func(computecore.Event)) computecore.Result {
	if c := s.begin("HcsSetProcessCallback"); c != 0 {
		return failed(c, nil)
	}
	return s.Service.OnProcess(h, f)
}

func (s *scripted) CallProcess(c computecore.Call, h computecore.Handle, document string) computecore.Result {
	if c := s.begin(names[c]); c != 0 {
		return failed(c, nil)
	}
	return s.Service.CallProcess(c, h, document)
}

func (s *scripted) EnumerateSystems(query string) computecore.Result {
	if c := s.begin("HcsEnumerateComputeSystems"); c != 0 {
		return failed(c, nil)
	}
	return s.Service.EnumerateSystems(query)
}

func (s *scripted) GrantVMAccess(id, path string) computecore.Result {
	if c := s.begin("HcsGrantVmAccess"); c != 0 {
		return failed(c, nil)
	}
	return s.Service.GrantVMAccess(id, path)
}

func (s *scripted) GrantGroupAccess(path string) computecore.Result {
	if c := s.begin("HcsGrantVmGroupAccess"); c != 0 {
		return failed(c, nil)
	}
	return s.Service.GrantGroupAccess(path)
}
