package standin

import (
	"runtime"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcs/hcstest"
	"github.com/byrevm/byre/internal/engine/computecore"
)

var (
	dll        = windows.NewLazySystemDLL("computecore.dll")
	procAnswer = dll.NewProc("StandinAnswer")
	procCount  = dll.NewProc("StandinCount")
	procEvent  = dll.NewProc("StandinEvent")
	procFail   = dll.NewProc("StandinFail")
	procLeft   = dll.NewProc("StandinLeft")
	procNext   = dll.NewProc("StandinNext")
	procScript = dll.NewProc("StandinScript")
	procStart  = dll.NewProc("StandinStart")
	procStop   = dll.NewProc("StandinStop")
)

// patience is how long after a test something may still be open.
const patience = 10 * time.Second

// one is held by the bench that there is: a process has the DLL once.
var one sync.Mutex

// Start starts a service of mem, behind the DLL, that behaves as script says.
// When t ends, everything has to be closed, and must have been used rightly. A
// process has one bench at a time.
func Start(t T, mem *hcstest.Engine, script Script) *Bench {
	t.Helper()
	if err := procStart.Find(); err != nil {
		t.Fatalf("computecore.dll is not the stand-in: %v", err)
	}
	one.Lock()
	b := &Bench{Service: New(mem)}
	p := &pump{service: b.Service, handles: make(map[uintptr]computecore.Handle)}
	procStart.Call()
	sync := uintptr(0)
	if script.Sync {
		sync = 1
	}
	procScript.Call(sync, uintptr(script.Delay.Milliseconds()))
	for _, f := range script.Fail {
		late := uintptr(0)
		if f.Late {
			late = 1
		}
		name := append([]byte(f.Call), 0)
		procFail.Call(uintptr(unsafe.Pointer(&name[0])), uintptr(f.Nth), uintptr(f.Code), late)
	}
	p.wg.Go(p.run)
	t.Cleanup(func() {
		defer one.Unlock()
		// What was called off is ended in the background.
		for began := time.Now(); b.Left() > 0 && time.Since(began) < patience; {
			runtime.Gosched()
		}
		n := b.Handles()
		if n == 0 {
			b.Wait()
		}
		procStop.Call()
		p.wg.Wait()
		left := func(what uintptr) int {
			n, _, _ := procLeft.Call(what)
			return int(int32(n))
		}
		if o, s, pr := left(0), left(1), left(2); n != 0 || o != 0 || s != 0 || pr != 0 {
			t.Errorf("open are %d handles of the service, and of the DLL %d operations, %d systems, %d processes", n, o, s, pr)
		}
		if n := left(3); n != 0 {
			t.Errorf("the interface of the DLL was misused %d times", n)
		}
	})
	return b
}

// Host starts a service that is the one of this host: engines that are made
// without a service, and without sockets, are on the bench.
func Host(t T, mem *hcstest.Engine, script Script) *Bench {
	t.Helper()
	b := Start(t, mem, script)
	t.Cleanup(computecore.StandIn(b.Service))
	return b
}

// Left returns how much is open: handles of the service, and what the DLL has.
func (b *Bench) Left() int {
	n := b.Handles()
	for what := range uintptr(3) {
		l, _, _ := procLeft.Call(what)
		n += int(int32(l))
	}
	return n
}

// otherBuild is 0: the build is asked of Windows.
func otherBuild(hcs.HostInfo) int { return 0 }

// Count returns how often a function of the DLL was called, or, for "*", any.
func (b *Bench) Count(name string) int {
	s := append([]byte(name), 0)
	n, _, _ := procCount.Call(uintptr(unsafe.Pointer(&s[0])))
	return int(n)
}

// A pump takes the requests of the DLL to the service.
type pump struct {
	service *Service
	wg      sync.WaitGroup

	mu      sync.Mutex
	handles map[uintptr]computecore.Handle // by those of the DLL
}

// request is the struct of the DLL.
type request struct {
	name           *byte
	handle, parent uintptr
	a, b           *uint16
}

func (p *pump) run() {
	for {
		r, _, _ := procNext.Call()
		if r == 0 {
			return
		}
		p.wg.Go(func() { p.answer(r) })
	}
}

// A reply answers a request.
type reply struct {
	computecore.Result
	info *processInformation
}

// processInformation is HCS_PROCESS_INFORMATION.
type processInformation struct {
	pid, reserved         uint32
	stdin, stdout, stderr windows.Handle
}

func (p *pump) answer(at uintptr) {
	r := **(**request)(unsafe.Pointer(&at)) // a copy: the answer frees it
	a, b := windows.UTF16PtrToString(r.a), windows.UTF16PtrToString(r.b)
	x := p.do(windows.BytePtrToString(r.name), r, a, b)
	var doc *uint16
	if x.Document != "" {
		var err error
		if doc, err = windows.UTF16PtrFromString(x.Document); err != nil {
			panic(err) // JSON has no NUL
		}
	}
	procAnswer.Call(at, uintptr(x.Code), uintptr(unsafe.Pointer(doc)), uintptr(unsafe.Pointer(x.info)))
}

// of returns the service's handle.
func (p *pump) of(h uintptr) computecore.Handle {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.handles[h]
}

func (p *pump) set(h uintptr, to computecore.Handle, r computecore.Result) computecore.Result {
	if !r.Failed() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.handles[h] = to
	}
	return r
}

func (p *pump) drop(h uintptr) computecore.Handle {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.handles[h]
	delete(p.handles, h)
	return s
}

// calls are the functions that are like each other.
var calls = map[string]computecore.Call{
	"HcsStartComputeSystem":         computecore.CallStart,
	"HcsShutDownComputeSystem":      computecore.CallShutdown,
	"HcsTerminateComputeSystem":     computecore.CallTerminate,
	"HcsModifyComputeSystem":        computecore.CallModify,
	"HcsGetComputeSystemProperties": computecore.CallProperties,
	"HcsSignalProcess":              computecore.CallSignalProcess,
	"HcsTerminateProcess":           computecore.CallTerminateProcess,
	"HcsModifyProcess":              computecore.CallModifyProcess,
	"HcsGetProcessProperties":       computecore.CallProcessProperties,
}

func (p *pump) do(name string, r request, a, b string) (x reply) {
	s := p.service
	event := func(ev computecore.Event) {
		doc, err := windows.UTF16PtrFromString(ev.Document)
		if err != nil {
			panic(err)
		}
		procEvent.Call(r.handle, uintptr(ev.Type), uintptr(unsafe.Pointer(doc)))
	}
	switch name {
	case "HcsCreateComputeSystem":
		h, res := s.CreateSystem(a, b)
		x.Result = p.set(r.handle, h, res)
	case "HcsOpenComputeSystem":
		h, res := s.OpenSystem(a)
		x.Result = p.set(r.handle, h, res)
	case "HcsCloseComputeSystem":
		s.CloseSystem(p.drop(r.handle))
	case "HcsSetComputeSystemCallback", "HcsSetProcessCallback":
		x.Result = s.OnSystem(p.of(r.handle), event)
	case "HcsCreateProcess":
		h, info, res := s.CreateProcess(p.of(r.parent), a)
		x.Result = p.set(r.handle, h, res)
		x.info = &processInformation{pid: info.Pid, stdin: handle(info.Stdin), stdout: handle(info.Stdout), stderr: handle(info.Stderr)}
	case "HcsCloseProcess":
		s.CloseProcess(p.drop(r.handle))
	case "HcsEnumerateComputeSystems":
		x.Result = s.EnumerateSystems(a)
	case "HcsGetServiceProperties":
		x.Result = s.ServiceProperties(a)
	case "HcsGrantVmAccess":
		x.Result = s.GrantVMAccess(a, b)
	case "HcsGrantVmGroupAccess":
		x.Result = s.GrantGroupAccess(a)
	default:
		switch c, ok := calls[name]; {
		case !ok:
			x.Result = failed(codeNotImplemented, nil)
		case strings.HasSuffix(name, "Process") || name == "HcsGetProcessProperties":
			x.Result = s.CallProcess(c, p.of(r.handle), a)
		default:
			x.Result = s.CallSystem(c, p.of(r.handle), a)
		}
	}
	return x
}

// handle returns the handle of an end of pipeIn or pipeOut.
func handle(v any) windows.Handle {
	if e, ok := v.(end); ok {
		return e.h
	}
	return 0
}
