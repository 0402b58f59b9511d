package computecore

import (
	"errors"
	"io"
	"io/fs"
	"syscall"
	"unsafe"

	"github.com/Microsoft/go-winio"
	"github.com/Microsoft/go-winio/pkg/security"
	"golang.org/x/sys/windows"
)

// dll is computecore.dll, of the system folder only. The operations of one
// call are not visible outside of it: each is created, used for one function,
// waited for without a limit, and closed.
type dll struct{}

var computecore = windows.NewLazySystemDLL("computecore.dll")

var (
	procCloseOperation     = computecore.NewProc("HcsCloseOperation")
	procCloseProcess       = computecore.NewProc("HcsCloseProcess")
	procCloseSystem        = computecore.NewProc("HcsCloseComputeSystem")
	procCreateOperation    = computecore.NewProc("HcsCreateOperation")
	procCreateProcess      = computecore.NewProc("HcsCreateProcess")
	procCreateSystem       = computecore.NewProc("HcsCreateComputeSystem")
	procEnumerate          = computecore.NewProc("HcsEnumerateComputeSystems")
	procGrantVMAccess      = computecore.NewProc("HcsGrantVmAccess")
	procGrantVMGroupAccess = computecore.NewProc("HcsGrantVmGroupAccess")
	procModifySystem       = computecore.NewProc("HcsModifyComputeSystem")
	procOpenSystem         = computecore.NewProc("HcsOpenComputeSystem")
	procServiceProperties  = computecore.NewProc("HcsGetServiceProperties")
	procSetProcessCallback = computecore.NewProc("HcsSetProcessCallback")
	procSetSystemCallback  = computecore.NewProc("HcsSetComputeSystemCallback")
	procWait               = computecore.NewProc("HcsWaitForOperationResult")
	procWaitProcessInfo    = computecore.NewProc("HcsWaitForOperationResultAndProcessInfo")
)

// procCall are the functions that take a handle, an operation and a document.
var procCall = map[Call]*windows.LazyProc{
	CallStart:             computecore.NewProc("HcsStartComputeSystem"),
	CallShutdown:          computecore.NewProc("HcsShutDownComputeSystem"),
	CallTerminate:         computecore.NewProc("HcsTerminateComputeSystem"),
	CallProperties:        computecore.NewProc("HcsGetComputeSystemProperties"),
	CallSignalProcess:     computecore.NewProc("HcsSignalProcess"),
	CallTerminateProcess:  computecore.NewProc("HcsTerminateProcess"),
	CallModifyProcess:     computecore.NewProc("HcsModifyProcess"),
	CallProcessProperties: computecore.NewProc("HcsGetProcessProperties"),
}

const (
	genericAll = 0x10000000
	infinite   = 0xFFFFFFFF

	codeInvalidArgument uint32 = 0x80070057
	codeOutOfMemory     uint32 = 0x8007000E
)

// call calls a function that returns an HRESULT. A function that this DLL, or
// a DLL that this host lacks, is a failure like any other.
//
//go:uintptrescapes
func call(p *windows.LazyProc, args ...uintptr) uint32 {
	if r := find(p); r != 0 {
		return r
	}
	r, _, _ := syscall.SyscallN(p.Addr(), args...)
	return uint32(r)
}

func find(p *windows.LazyProc) uint32 {
	if err := computecore.Load(); err != nil {
		return codeModNotFound
	}
	if err := p.Find(); err != nil {
		return codeProcNotFound
	}
	return 0
}

// text returns a string for the DLL; nil for "". A NUL byte ends it early,
// which ids, paths and JSON cannot have in them and be valid.
func text(s string) (*uint16, uint32) {
	if s == "" {
		return nil, 0
	}
	p, err := windows.UTF16PtrFromString(s)
	if err != nil {
		return nil, codeInvalidArgument
	}
	return p, 0
}

// take returns a string of the DLL and frees it.
func take(p *uint16) string {
	if p == nil {
		return ""
	}
	s := windows.UTF16PtrToString(p)
	_, _ = windows.LocalFree(windows.Handle(unsafe.Pointer(p))) // nothing can be done about a failure
	return s
}

// processInformation is HCS_PROCESS_INFORMATION.
type processInformation struct {
	pid, reserved         uint32
	stdin, stdout, stderr windows.Handle
}

// operate runs one operation. f starts it; info, if not nil, gets what there
// is to know of a new process.
func operate(info *processInformation, f func(op uintptr) uint32) Result {
	if code := find(procCreateOperation); code != 0 {
		return Result{Code: code}
	}
	op, _, _ := syscall.SyscallN(procCreateOperation.Addr(), 0, 0)
	if op == 0 {
		return Result{Code: codeOutOfMemory}
	}
	defer call(procCloseOperation, op)
	if code := f(op); code&0x80000000 != 0 {
		return Result{Code: code}
	}
	var doc *uint16
	var code uint32
	if info == nil {
		code = call(procWait, op, infinite, uintptr(unsafe.Pointer(&doc)))
	} else {
		code = call(procWaitProcessInfo, op, infinite, uintptr(unsafe.Pointer(info)), uintptr(unsafe.Pointer(&doc)))
	}
	return Result{Code: code, Document: take(doc)}
}

func (dll) CreateSystem(id, document string) (h Handle, r Result) {
	i, code := text(id)
	d, code2 := text(document)
	if code|code2 != 0 {
		return 0, Result{Code: codeInvalidArgument}
	}
	r = operate(nil, func(op uintptr) uint32 {
		return call(procCreateSystem, uintptr(unsafe.Pointer(i)), uintptr(unsafe.Pointer(d)), op, 0, uintptr(unsafe.Pointer(&h)))
	})
	if r.Failed() && h != 0 { // the handle comes before the result
		dll{}.CloseSystem(h)
		h = 0
	}
	return h, r
}

func (dll) OpenSystem(id string) (h Handle, r Result) {
	i, code := text(id)
	if code == 0 {
		code = call(procOpenSystem, uintptr(unsafe.Pointer(i)), genericAll, uintptr(unsafe.Pointer(&h)))
	}
	return h, Result{Code: code}
}

func (dll) CloseSystem(h Handle) {
	forget(h)
	call(procCloseSystem, uintptr(h))
}

func (dll) OnSystem(h Handle, f func(Event)) Result { return listen(procSetSystemCallback, h, f) }

func (dll) CallSystem(c Call, h Handle, document string) Result {
	d, code := text(document)
	if code != 0 {
		return Result{Code: code}
	}
	return operate(nil, func(op uintptr) uint32 {
		if c == CallModify { // it has one more argument, an identity
			return call(procModifySystem, uintptr(h), op, uintptr(unsafe.Pointer(d)), 0)
		}
		return call(procCall[c], uintptr(h), op, uintptr(unsafe.Pointer(d)))
	})
}

func (dll) CreateProcess(system Handle, parameters string) (h Handle, info ProcessInfo, r Result) {
	d, code := text(parameters)
	if code != 0 {
		return 0, info, Result{Code: code}
	}
	var pi processInformation
	r = operate(&pi, func(op uintptr) uint32 {
		return call(procCreateProcess, uintptr(system), uintptr(unsafe.Pointer(d)), op, 0, uintptr(unsafe.Pointer(&h)))
	})
	var err error
	if !r.Failed() {
		info, err = pi.open()
	}
	if err != nil {
		dll{}.CallProcess(CallTerminateProcess, h, "")
		r = Result{Code: codeOutOfMemory}
		var e syscall.Errno
		if errors.As(err, &e) {
			r.Code = 0x80070000 | uint32(e)&0xFFFF
		}
	}
	if r.Failed() && h != 0 {
		dll{}.CloseProcess(h)
		h = 0
	}
	return h, info, r
}

// open makes streams of the handles, which are overlapped ones.
func (pi *processInformation) open() (info ProcessInfo, err error) {
	info.Pid = pi.pid
	open := func(h windows.Handle) io.ReadWriteCloser {
		if h == 0 {
			return nil
		}
		if err == nil {
			var f io.ReadWriteCloser
			if f, err = winio.NewOpenFile(h); err == nil {
				return f
			}
		}
		windows.CloseHandle(h)
		return nil
	}
	if f := open(pi.stdin); f != nil {
		info.Stdin = f
	}
	if f := open(pi.stdout); f != nil {
		info.Stdout = f
	}
	if f := open(pi.stderr); f != nil {
		info.Stderr = f
	}
	if err != nil {
		info.Close()
	}
	return info, err
}

func (dll) CloseProcess(h Handle) {
	forget(h)
	call(procCloseProcess, uintptr(h))
}

func (dll) OnProcess(h Handle, f func(Event)) Result { return listen(procSetProcessCallback, h, f) }

func (dll) CallProcess(c Call, h Handle, document string) Result {
	d, code := text(document)
	if code != 0 {
		return Result{Code: code}
	}
	return operate(nil, func(op uintptr) uint32 {
		return call(procCall[c], uintptr(h), op, uintptr(unsafe.Pointer(d)))
	})
}

func (dll) EnumerateSystems(query string) Result {
	q, code := text(query)
	if code != 0 {
		return Result{Code: code}
	}
	return operate(nil, func(op uintptr) uint32 { return call(procEnumerate, uintptr(unsafe.Pointer(q)), op) })
}

func (dll) ServiceProperties(query string) Result {
	q, code := text(query)
	if code != 0 {
		return Result{Code: code}
	}
	var doc *uint16
	code = call(procServiceProperties, uintptr(unsafe.Pointer(q)), uintptr(unsafe.Pointer(&doc)))
	return Result{Code: code, Document: take(doc)}
}

func (dll) GrantVMAccess(id, path string) Result {
	i, code := text(id)
	p, code2 := text(path)
	if code|code2 != 0 {
		return Result{Code: codeInvalidArgument}
	}
	return Result{Code: call(procGrantVMAccess, uintptr(unsafe.Pointer(i)), uintptr(unsafe.Pointer(p)))}
}

// GrantGroupAccess edits the file's permissions itself where the DLL is too
// old to.
func (dll) GrantGroupAccess(path string) Result {
	p, code := text(path)
	if code != 0 {
		return Result{Code: code}
	}
	code = call(procGrantVMGroupAccess, uintptr(unsafe.Pointer(p)))
	if code != codeProcNotFound {
		return Result{Code: code}
	}
	err := security.GrantVmGroupAccess(path)
	var e syscall.Errno
	switch {
	case err == nil:
		return Result{}
	case errors.As(err, &e):
		return Result{Code: 0x80070000 | uint32(e)&0xFFFF}
	case errors.Is(err, fs.ErrNotExist):
		return Result{Code: codeFileNotFound}
	}
	return Result{Code: codeDenied}
}
