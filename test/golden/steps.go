package golden

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/hns"
	"github.com/byrevm/byre/uvm"
)

// do carries a step out.
func (r *replay) do(s Step) (any, error) {
	ctx := r.t.Context()
	str := func(name string) string { return arg[string](r, s, name) }
	switch s.name() {
	case "CreateLCOW":
		vm, err := uvm.CreateLCOW(ctx, r.lcow)
		r.vm = vm
		return nil, err
	case "CreateWCOW":
		vm, err := uvm.CreateWCOW(ctx, r.wcow)
		r.vm = vm
		return nil, err
	case "Start":
		return nil, r.vm.Start(ctx)
	case "Wait":
		return nil, r.vm.Wait()
	case "ExitError":
		return nil, r.vm.ExitError()
	case "Terminate":
		return nil, r.vm.Terminate(ctx)
	case "Close":
		return nil, r.vm.Close()
	case "(guest exits)":
		status, err := strconv.ParseUint(str("status"), 0, 32)
		if err != nil {
			r.t.Fatal(err)
		}
		r.bench.Exit(r.vm.ID(), uint32(status))
		return nil, nil
	case "CombineLayersLCOW":
		return nil, r.vm.CombineLayersLCOW(ctx, arg[[]string](r, s, "layers"), str("scratch"), str("rootfs"))
	case "CombineLayersWCOW":
		return nil, r.vm.CombineLayersWCOW(ctx, arg[[]hcsschema.Layer](r, s, "layers"), str("containerRoot"))
	case "RemoveCombinedLayers":
		return nil, r.vm.RemoveCombinedLayers(ctx, str("rootfs"))
	case "CreateContainer":
		return r.hosted(ctx, str("id"), s.Args["settings"])
	case "hcsoci.CreateContainer":
		return nil, r.createOCI(ctx, s)
	case "hcsoci.ReleaseResources":
		return nil, r.releaseOCI(ctx)
	case "CreateProcess":
		return r.process(ctx, s.Args["params"])
	case "AddNetNS":
		return nil, r.vm.AddNetNS(ctx, str("id"))
	case "RemoveNetNS":
		return nil, r.vm.RemoveNetNS(ctx, str("id"))
	case "AddEndpointsToNS":
		return nil, r.vm.AddEndpointsToNS(ctx, str("id"), arg[[]*hns.HNSEndpoint](r, s, "endpoints"))
	case "RemoveEndpointsFromNS":
		return nil, r.vm.RemoveEndpointsFromNS(ctx, str("id"), arg[[]*hns.HNSEndpoint](r, s, "endpoints"))
	}
	return r.device(ctx, s)
}

// device carries a step about a device or a share out.
func (r *replay) device(ctx context.Context, s Step) (any, error) {
	str := func(name string) string { return arg[string](r, s, name) }
	switch s.name() {
	case "AddSCSI":
		return r.vm.AddSCSI(ctx, str("hostPath"), str("uvmPath"), arg[bool](r, s, "readOnly"), uvm.VMAccessType(arg[int](r, s, "vmAccess")))
	case "AddSCSIPhysicalDisk":
		return r.vm.AddSCSIPhysicalDisk(ctx, str("hostPath"), str("uvmPath"), arg[bool](r, s, "readOnly"))
	case "RemoveSCSI":
		return nil, r.vm.RemoveSCSI(ctx, str("hostPath"))
	case "GetScsiUvmPath":
		return r.vm.GetScsiUvmPath(ctx, str("hostPath"))
	case "AddVPMEM":
		return r.vm.AddVPMEM(ctx, str("hostPath"))
	case "RemoveVPMEM":
		return nil, r.vm.RemoveVPMEM(ctx, str("hostPath"))
	case "AddVSMB":
		_, err := r.vm.AddVSMB(ctx, str("hostPath"), nil, arg[*hcsschema.VirtualSmbShareOptions](r, s, "options"))
		return nil, err
	case "RemoveVSMB":
		return nil, r.vm.RemoveVSMB(ctx, str("hostPath"))
	case "GetVSMBUvmPath":
		return r.vm.GetVSMBUvmPath(ctx, str("hostPath"))
	case "AddPlan9":
		share, err := r.vm.AddPlan9(ctx, str("hostPath"), str("uvmPath"), arg[bool](r, s, "readOnly"), arg[bool](r, s, "restrict"), arg[[]string](r, s, "allowedNames"))
		if err == nil {
			r.shares = append(r.shares, share)
		}
		return nil, err
	case "RemovePlan9":
		return nil, r.vm.RemovePlan9(ctx, r.nextShare())
	case "AddPipe":
		p := str("hostPath")
		if len(s.Args) == 0 {
			p = "x"
		}
		return r.vm.AddPipe(ctx, p)
	case "RemovePipe":
		return nil, r.vm.RemovePipe(ctx, str("hostPath"))
	case "GetContainerPipeMapping":
		src, dst := uvm.GetContainerPipeMapping(r.vm, specs.Mount{Source: str("source"), Destination: str("destination")})
		return map[string]string{"src": src, "dst": dst}, nil
	case "AssignDevice":
		return r.vm.AssignDevice(ctx, arg[hcsschema.VirtualPciDevice](r, s, "device"))
	case "RemoveDevice":
		return nil, r.vm.RemoveDevice(ctx, str("id"))
	}
	r.t.Fatalf("unknown step %s", s.Op)
	return nil, nil
}

// nextShare is the share that a RemovePlan9 is about.
func (r *replay) nextShare() *uvm.Plan9Share {
	i := r.nextShareIndex()
	if i >= len(r.shares) {
		return nil
	}
	return r.shares[i]
}

// nextShareIndex is the number of the share that a RemovePlan9 is about: the
// second, the first, then each but the third.
func (r *replay) nextShareIndex() int {
	n := 0
	for _, s := range r.rec.Steps[:r.step] {
		if s.Op == "RemovePlan9" {
			n++
		}
	}
	switch n {
	case 0:
		return 1
	case 1:
		return 0
	}
	return n + 1
}

// hosted creates, starts and terminates a container.
func (r *replay) hosted(ctx context.Context, id string, settings json.RawMessage) (any, error) {
	c, err := r.vm.CreateContainer(ctx, id, settings)
	if err != nil {
		return nil, err
	}
	result := map[string]any{"id": c.ID(), "isOCI": c.IsOCI(), "os": c.OS()}
	if !r.opts.ExternalGuestConnection {
		result["os"] = "windows" // the recording host said of every system
		result["isOCI"] = false
	}
	return result, errors.Join(c.Start(ctx), c.Terminate(ctx), c.Close())
}

// process has a process echo, resizes its console, and signals it.
func (r *replay) process(ctx context.Context, params json.RawMessage) (any, error) {
	p, err := r.vm.CreateProcess(ctx, params)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	in, out, _ := p.Stdio()
	if _, err := io.WriteString(in, "hello\n"); err != nil {
		return nil, err
	}
	b := make([]byte, 6)
	if _, err := io.ReadFull(out, b); err != nil || string(b) != "hello\n" {
		return nil, fmt.Errorf("read %q, %w", b, err)
	}
	if err := p.ResizeConsole(ctx, 100, 40); err != nil {
		return nil, err
	}
	signalled, err := p.Signal(ctx, hcsschema.SignalProcessOptionsLCOW{Signal: 15})
	if err != nil {
		return nil, err
	}
	if err := p.Wait(); err != nil {
		return nil, err
	}
	code, err := p.ExitCode()
	if err != nil || code != 143 {
		return nil, fmt.Errorf("exit code %d, %w", code, err)
	}
	delivered, err := p.Kill(ctx)
	return map[string]any{
		"stdout": string(b), "signal": signalled, "kill": delivered, "exit": code, "pid": r.pid(),
		"readErr": "", "resizeErr": "", "signalErr": "", "waitErr": "", "exitErr": "", "killErr": "", "closeErr": "",
	}, err
}

// pid is the process id of the recording: the guest chose it.
func (r *replay) pid() int {
	var result struct{ PID int }
	if err := json.Unmarshal(r.rec.Steps[r.step].Result, &result); err != nil {
		r.t.Fatal(err)
	}
	return result.PID
}
