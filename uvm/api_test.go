package uvm_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/byrevm/byre/cow"
	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/hns"
	"github.com/byrevm/byre/schema1"
	"github.com/byrevm/byre/stats"
	"github.com/byrevm/byre/uvm"
)

// The index of the API: this file compiles only while every name has exactly
// the signature that callers of the reference rely on.
var (
	_ func(*uvm.UtilityVM, specs.Mount) (string, string) = uvm.GetContainerPipeMapping
	_ func(string) bool                                  = uvm.IsPipe

	_ func(context.Context, *uvm.OptionsLCOW) (*uvm.UtilityVM, error) = uvm.CreateLCOW
	_ func(context.Context, *uvm.OptionsWCOW) (*uvm.UtilityVM, error) = uvm.CreateWCOW
	_ func(string, string) *uvm.OptionsLCOW                           = uvm.NewDefaultOptionsLCOW
	_ func(string, string) *uvm.OptionsWCOW                           = uvm.NewDefaultOptionsWCOW

	_ func(*uvm.NetworkEndpoints, context.Context) error = (*uvm.NetworkEndpoints).Release
	_ func(*uvm.PipeMount, context.Context) error        = (*uvm.PipeMount).Release
	_ func(*uvm.Plan9Share, context.Context) error       = (*uvm.Plan9Share).Release
	_ func(*uvm.SCSIMount, context.Context) error        = (*uvm.SCSIMount).Release
	_ func(*uvm.VPCIDevice, context.Context) error       = (*uvm.VPCIDevice).Release
	_ func(*uvm.VSMBShare, context.Context) error        = (*uvm.VSMBShare).Release

	_ uvm.OutputHandler = func(io.Reader) {}

	_ cow.ProcessHost = (*uvm.UtilityVM)(nil)
)

type vmAPI interface {
	AddEndpointsToNS(ctx context.Context, id string, endpoints []*hns.HNSEndpoint) error
	AddNetNS(ctx context.Context, id string) error
	AddPipe(ctx context.Context, hostPath string) (*uvm.PipeMount, error)
	AddPlan9(ctx context.Context, hostPath string, uvmPath string, readOnly bool, restrict bool, allowedNames []string) (*uvm.Plan9Share, error)
	AddSCSI(ctx context.Context, hostPath string, uvmPath string, readOnly bool, vmAccess uvm.VMAccessType) (*uvm.SCSIMount, error)
	AddSCSIPhysicalDisk(ctx context.Context, hostPath, uvmPath string, readOnly bool) (*uvm.SCSIMount, error)
	AddVPMEM(ctx context.Context, hostPath string) (_ string, err error)
	AddVSMB(ctx context.Context, hostPath string, guestRequest interface{}, options *hcsschema.VirtualSmbShareOptions) (*uvm.VSMBShare, error)
	AssignDevice(ctx context.Context, device hcsschema.VirtualPciDevice) (*uvm.VPCIDevice, error)
	Capabilities() (uint32, schema1.GuestDefinedCapabilities)
	Close() (err error)
	CombineLayersLCOW(ctx context.Context, layerPaths []string, scratchPath, rootfsPath string) error
	CombineLayersWCOW(ctx context.Context, layerPaths []hcsschema.Layer, containerRootPath string) error
	ContainerCounter() uint64
	CreateContainer(ctx context.Context, id string, settings interface{}) (cow.Container, error)
	CreateProcess(ctx context.Context, settings interface{}) (cow.Process, error)
	DeleteContainerState(ctx context.Context, cid string) error
	DeleteContainerStateSupported() bool
	DumpStacks(ctx context.Context) (string, error)
	ExitError() error
	GetScsiUvmPath(ctx context.Context, hostPath string) (string, error)
	GetVSMBUvmPath(ctx context.Context, hostPath string) (string, error)
	ID() string
	IsOCI() bool
	OS() string
	ProcessorCount() int32
	RemoveCombinedLayers(ctx context.Context, rootfsPath string) error
	RemoveDevice(ctx context.Context, id string) error
	RemoveEndpointsFromNS(ctx context.Context, id string, endpoints []*hns.HNSEndpoint) error
	RemoveNetNS(ctx context.Context, id string) error
	RemovePipe(ctx context.Context, hostPath string) error
	RemovePlan9(ctx context.Context, share *uvm.Plan9Share) error
	RemoveSCSI(ctx context.Context, hostPath string) error
	RemoveVPMEM(ctx context.Context, hostPath string) (err error)
	RemoveVSMB(ctx context.Context, hostPath string) error
	SignalProcessSupported() bool
	Start(ctx context.Context) (err error)
	Stats(ctx context.Context) (*stats.VirtualMachineStatistics, error)
	Terminate(ctx context.Context) error
	UVMMountCounter() uint64
	Wait() error
}

var _ vmAPI = (*uvm.UtilityVM)(nil)

func TestIndexConstants(t *testing.T) {
	for _, c := range []struct{ got, want any }{
		{uvm.MaxVPMEMCount, 128},
		{uvm.DefaultVPMEMCount, 64},
		{uint64(uvm.DefaultVPMemSizeBytes), uint64(4 << 30)},
		{uvm.InitrdFile, "initrd.img"},
		{uvm.VhdFile, "rootfs.vhd"},
		{uvm.KernelFile, "kernel"},
		{uvm.UncompressedKernelFile, "vmlinux"},
		{uvm.PreferredRootFSTypeInitRd, uvm.PreferredRootFSType(0)},
		{uvm.PreferredRootFSTypeVHD, uvm.PreferredRootFSType(1)},
		{uvm.VMAccessTypeNoop, uvm.VMAccessType(0)},
		{uvm.VMAccessTypeGroup, uvm.VMAccessType(1)},
		{uvm.VMAccessTypeIndividual, uvm.VMAccessType(2)},
		{uvm.ErrNetNSAlreadyAttached.Error(), "network namespace already added"},
		{uvm.ErrNetNSNotFound.Error(), "network namespace not found"},
		{uvm.ErrNoAvailableLocation.Error(), "no available location"},
		{uvm.ErrNotAttached.Error(), "not attached"},
		{uvm.ErrAlreadyAttached.Error(), "already attached"},
		{uvm.ErrNoSCSIControllers.Error(), "no SCSI controllers configured for this utility VM"},
		{uvm.ErrTooManyAttachments.Error(), "too many SCSI attachments"},
		{uvm.ErrSCSILayerWCOWUnsupported.Error(), "SCSI attached layers are not supported for WCOW"},
		{uvm.ErrMaxVPMEMLayerSize.Error(), "layer size is to large for VPMEM max size"},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("got %v (%T), want %v (%T)", c.got, c.got, c.want, c.want)
		}
	}
}

// TestIndexStructs checks the exported members of every struct of the index,
// and that nothing else of ours gets into its JSON form.
func TestIndexStructs(t *testing.T) {
	for _, c := range []struct {
		v    any
		want map[string]any
	}{
		{uvm.SCSIMount{}, map[string]any{"HostPath": "", "UVMPath": "", "Controller": 0, "LUN": int32(0)}},
		{uvm.PipeMount{}, map[string]any{"HostPath": ""}},
		{uvm.VSMBShare{}, map[string]any{"HostPath": ""}},
		{uvm.VPCIDevice{}, map[string]any{"ID": ""}},
		{uvm.Plan9Share{}, map[string]any{}},
		{uvm.NetworkEndpoints{}, map[string]any{"EndpointIDs": []string(nil), "Namespace": ""}},
		{uvm.OptionsWCOW{}, map[string]any{"Options": (*uvm.Options)(nil), "LayerFolders": []string(nil)}},
		{uvm.UtilityVM{}, map[string]any{}},
		{uvm.Options{}, map[string]any{
			"ID": "", "Owner": "", "AdditionHCSDocumentJSON": "", "MemorySizeInMB": int32(0),
			"LowMMIOGapInMB": uint64(0), "HighMMIOBaseInMB": uint64(0), "HighMMIOGapInMB": uint64(0),
			"AllowOvercommit": false, "EnableDeferredCommit": false,
			"ProcessorCount": int32(0), "ProcessorLimit": int32(0), "ProcessorWeight": int32(0),
			"StorageQoSIopsMaximum": int32(0), "StorageQoSBandwidthMaximum": int32(0),
			"ExternalGuestConnection": false,
			"Engine":                  hcs.Engine(nil), "Network": hns.Network(nil),
		}},
		{uvm.OptionsLCOW{}, map[string]any{
			"Options": (*uvm.Options)(nil), "BootFilesPath": "", "KernelFile": "", "KernelDirect": false,
			"RootFSFile": "", "KernelBootOptions": "", "EnableGraphicsConsole": false, "ConsolePipe": "",
			"SCSIControllerCount": uint32(0), "UseGuestConnection": false, "ExecCommandLine": "",
			"ForwardStdout": false, "ForwardStderr": false, "OutputHandler": uvm.OutputHandler(nil),
			"VPMemDeviceCount": uint32(0), "VPMemSizeBytes": uint64(0),
			"PreferredRootFSType":   uvm.PreferredRootFSType(0),
			"EnableColdDiscardHint": false, "VPCIEnabled": false,
			"AllSCSIControllers": false,
		}},
	} {
		typ := reflect.TypeOf(c.v)
		got := make(map[string]any)
		for i := range typ.NumField() {
			if f := typ.Field(i); f.IsExported() {
				got[f.Name] = reflect.Zero(f.Type).Interface()
			}
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v: got %v, want %v", typ, got, c.want)
		}
	}
	b, err := json.Marshal(uvm.OptionsLCOW{Options: &uvm.Options{}})
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Engine", "Network", "OutputHandler", "AllSCSIControllers"} {
		if _, ok := m[name]; ok {
			t.Errorf("JSON of options has %s", name)
		}
	}
}

// What is for one kind of guest is not supported for another.
func TestOtherGuest(t *testing.T) {
	ctx := t.Context()
	vm := new(uvm.UtilityVM) // of no kind of guest
	_, err2 := vm.AddVSMB(ctx, "x", nil, nil)
	_, err3 := vm.GetVSMBUvmPath(ctx, "x")
	_, err4 := vm.AddPlan9(ctx, "x", "/x", false, false, nil)
	for i, err := range []error{
		err2, err3, err4,
		vm.RemoveVSMB(ctx, "x"), vm.RemovePlan9(ctx, nil),
		vm.CombineLayersWCOW(ctx, nil, "x"), vm.CombineLayersLCOW(ctx, nil, "", "x"),
	} {
		if !errors.Is(err, hcs.ErrNotSupported) {
			t.Errorf("error %d is %v, want %v", i+1, err, hcs.ErrNotSupported)
		}
	}
	if _, err := uvm.CreateWCOW(ctx, nil); err == nil {
		t.Error("created from nothing")
	}
}

func TestPipes(t *testing.T) {
	for p, want := range map[string]bool{`\\.\pipe\x`: true, `\\.\PIPE\x`: false, "/run/x.sock": false, "": false} {
		if got := uvm.IsPipe(p); got != want {
			t.Errorf("IsPipe(%q) = %v", p, got)
		}
	}
	m := specs.Mount{Source: `\\.\pipe\lab`, Destination: `\\.\pipe\in`}
	if src, dst := uvm.GetContainerPipeMapping(nil, m); src != m.Source || dst != "in" {
		t.Errorf("on this host: %q, %q", src, dst)
	}
	src, dst := uvm.GetContainerPipeMapping(new(uvm.UtilityVM), m)
	if want := `\\?\VMSMB\VSMB-{dcc079ae-60ba-4d07-847c-3493609c0870}\IPC$\lab`; src != want || dst != "in" {
		t.Errorf("in a VM: %q, %q; want %q", src, dst, want)
	}
}
