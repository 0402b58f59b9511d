package standin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/byrevm/byre/cow"
	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/engine/computecore"
)

// A process is one of the guest's.
type process struct {
	cow.Process
	stdin   io.Closer   // the service's end, nil if there is none
	closing atomic.Bool // stdin ends when it has been read to its end
}

// CreateProcess implements [computecore.Service]. The streams are pipes of
// the system, as those of the service are.
func (s *Service) CreateProcess(system computecore.Handle, parameters string) (computecore.Handle, computecore.ProcessInfo, computecore.Result) {
	var info computecore.ProcessInfo
	fail := func(r computecore.Result) (computecore.Handle, computecore.ProcessInfo, computecore.Result) {
		return 0, computecore.ProcessInfo{}, r
	}
	o := s.object(system)
	var p cow.Process
	var err error
	switch ctx, params := context.Background(), json.RawMessage(parameters); {
	case o == nil:
		return fail(failed(codeInvalidHandle, nil))
	case o.container != nil:
		p, err = o.container.CreateProcess(ctx, params)
	default:
		p, err = o.system.CreateProcess(ctx, params)
	}
	if err != nil {
		return fail(resultOf(err, false))
	}
	stdin, stdout, stderr := p.Stdio()
	info.Pid = uint32(p.Pid())
	po := &object{process: &process{Process: p}}
	if stdin != nil {
		var r io.ReadCloser
		r, info.Stdin = pipeIn()
		po.process.stdin = r
		s.wg.Go(func() {
			if _, err := io.Copy(stdin, r); err == nil && po.process.closing.Load() {
				_ = p.CloseStdin(context.Background()) // fails if the process is gone
			}
			_ = r.Close()
		})
	}
	if stdout != nil {
		info.Stdout = s.pump(stdout)
	}
	if stderr != nil {
		info.Stderr = s.pump(stderr)
	}
	h := s.add(po)
	s.wg.Go(func() {
		st := hcsschema.ProcessStatus{ProcessId: info.Pid, Exited: true}
		if err := p.Wait(); err != nil {
			return // its system has ended, or its handle was closed
		}
		code, err := p.ExitCode()
		if err != nil {
			st.LastWaitResult = -1
		}
		st.ExitCode = uint32(code)
		po.event(computecore.EventProcessExited, st)
	})
	return h, info, computecore.Result{}
}

// pump returns a pipe that gets what r has.
func (s *Service) pump(r io.Reader) io.ReadCloser {
	out, w := pipeOut()
	s.wg.Go(func() {
		_, _ = io.Copy(w, r)
		_ = w.Close()
		closer(r)
	})
	return out
}

// CloseProcess implements [computecore.Service].
func (s *Service) CloseProcess(h computecore.Handle) {
	if o := s.remove(h); o != nil {
		closer(o.process.stdin)
		_ = o.process.Close()
	}
}

// OnProcess implements [computecore.Service].
func (s *Service) OnProcess(h computecore.Handle, f func(computecore.Event)) computecore.Result {
	return s.OnSystem(h, f)
}

// CallProcess implements [computecore.Service].
func (s *Service) CallProcess(c computecore.Call, h computecore.Handle, doc string) computecore.Result {
	ctx := context.Background()
	o := s.object(h)
	if o == nil {
		return failed(codeInvalidHandle, nil)
	}
	p := o.process
	switch c {
	case computecore.CallSignalProcess:
		var options any
		if doc != "" {
			options = json.RawMessage(doc)
		}
		return delivered(p.Signal(ctx, options))
	case computecore.CallTerminateProcess:
		return delivered(p.Kill(ctx))
	case computecore.CallModifyProcess:
		var req hcsschema.ProcessModifyRequest
		if err := json.Unmarshal([]byte(doc), &req); err != nil {
			return failed(codeInvalidJSON, err)
		}
		switch {
		case req.Operation == hcsschema.ModifyCloseHandle && req.CloseHandle != nil && req.CloseHandle.Handle == hcsschema.HandleStdIn:
			p.closing.Store(true) // what was written comes first
			return computecore.Result{}
		case req.Operation == hcsschema.ModifyConsoleSize && req.ConsoleSize != nil:
			return resultOf(p.ResizeConsole(ctx, uint16(req.ConsoleSize.Width), uint16(req.ConsoleSize.Height)), false)
		}
		return failed(codeNotSupported, fmt.Errorf("%w: %s", hcs.ErrNotSupported, doc))
	case computecore.CallProcessProperties:
		st := hcsschema.ProcessStatus{ProcessId: uint32(p.Pid())}
		if code, err := p.ExitCode(); err == nil {
			st.Exited, st.ExitCode = true, uint32(code)
		}
		return document(st)
	}
	return failed(codeNotImplemented, nil)
}

var errNoProcess = errors.New("the process has exited")

func delivered(ok bool, err error) computecore.Result {
	if err == nil && !ok {
		return failed(codeNotFound, errNoProcess)
	}
	return resultOf(err, false)
}
