package container

import (
	"fmt"
	"path/filepath"
	"runtime"
	"syscall"
	"unsafe"

	"github.com/Microsoft/go-winio/pkg/guid"
	"golang.org/x/sys/windows"
)

var (
	vmcompute          = windows.NewLazySystemDLL("vmcompute.dll")
	nameToGUID         = vmcompute.NewProc("NameToGuid")
	createSandboxLayer = vmcompute.NewProc("CreateSandboxLayer")
)

// layerID returns the id of a layer that all programs of this host agree on:
// what the Host Compute Service makes of its name.
func layerID(name string) (guid.GUID, error) {
	if nameToGUID.Find() != nil {
		return nameID(name)
	}
	n, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return guid.GUID{}, err
	}
	var id guid.GUID
	r, _, _ := syscall.SyscallN(nameToGUID.Addr(), uintptr(unsafe.Pointer(n)), uintptr(unsafe.Pointer(&id)))
	if err := hresult(r); err != nil {
		return guid.GUID{}, fmt.Errorf("id of layer %q: %w", name, err)
	}
	return id, nil
}

// hresult returns the error that an HRESULT is, or nil. What is an error of
// Windows in it compares as that.
func hresult(r uintptr) error {
	const (
		facility = 0xFFFF0000
		win32    = 0x80070000
	)
	switch code := uint32(r); {
	case int32(code) >= 0:
		return nil
	case code&facility == win32:
		return windows.Errno(code &^ facility)
	default:
		return windows.Errno(code)
	}
}

// A layerDescriptor is WC_LAYER_DESCRIPTOR.
type layerDescriptor struct {
	id    guid.GUID
	flags uint32
	path  *uint16
}

// A driverInfo says where layers are; with an empty folder they are given by
// their full paths.
type driverInfo struct {
	flavour int32
	home    *uint16
}

const flavourFilter = 1

// makeScratchLayer makes the disk of the scratch folder dir on top of parents,
// the top-most first.
func makeScratchLayer(dir string, parents []string) error {
	if err := createSandboxLayer.Find(); err != nil {
		return err
	}
	id, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return err
	}
	layers := make([]layerDescriptor, len(parents))
	var pins runtime.Pinner // the descriptors hold pointers into other memory
	defer pins.Unpin()
	for i, p := range parents {
		if layers[i].id, err = layerID(filepath.Base(p)); err != nil {
			return err
		}
		if layers[i].path, err = windows.UTF16PtrFromString(p); err != nil {
			return err
		}
		pins.Pin(layers[i].path)
	}
	info := driverInfo{flavour: flavourFilter, home: new(uint16)}
	pins.Pin(info.home)
	r, _, _ := syscall.SyscallN(createSandboxLayer.Addr(),
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(id)), 0,
		uintptr(unsafe.Pointer(unsafe.SliceData(layers))), uintptr(len(layers)))
	if err := hresult(r); err != nil {
		return fmt.Errorf("making a scratch layer in %s: %w", dir, err)
	}
	return nil
}
