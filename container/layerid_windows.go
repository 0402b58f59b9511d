package container

import (
	"fmt"
	"path/filepath"
	"runtime"
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
	r, _, _ := nameToGUID.Call(uintptr(unsafe.Pointer(n)), uintptr(unsafe.Pointer(&id)))
	if int32(r) < 0 {
		return guid.GUID{}, fmt.Errorf("id of layer %q: %w", name, windows.Errno(uint32(r)))
	}
	return id, nil
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
	flavour int
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
	var empty uint16
	info := driverInfo{flavour: flavourFilter, home: &empty}
	pins.Pin(info.home)
	r, _, _ := createSandboxLayer.Call(
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(id)), 0,
		uintptr(unsafe.Pointer(unsafe.SliceData(layers))), uintptr(len(layers)))
	if int32(r) < 0 {
		return fmt.Errorf("making a scratch layer in %s: %w", dir, windows.Errno(uint32(r)))
	}
	return nil
}
