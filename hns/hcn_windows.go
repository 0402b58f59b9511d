package hns

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/Microsoft/go-winio/pkg/guid"
	"golang.org/x/sys/windows"
)

// hcnDLL is computenetwork.dll, of the system folder only.
type hcnDLL struct{}

var computenetwork = windows.NewLazySystemDLL("computenetwork.dll")

// hcnProc returns a function of the DLL. One that this host lacks is not
// supported by it.
func hcnProc(name string) (*windows.LazyProc, error) {
	p := computenetwork.NewProc(name)
	if err := p.Find(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSupported, err)
	}
	return p, nil
}

// hcnResult returns the error of a call. As the field has it, a call with a
// record has failed whatever its code.
func hcnResult(call string, code uintptr, record *uint16) error {
	e := &hcnError{Call: call, Record: hcnTake(record)}
	if int32(code) < 0 {
		e.Code = uint32(code)
	} else if e.Record == "" {
		return nil
	}
	return e
}

// hcnTake returns a string of the DLL and frees it.
func hcnTake(p *uint16) string {
	if p == nil {
		return ""
	}
	defer windows.CoTaskMemFree(unsafe.Pointer(p))
	return windows.UTF16PtrToString(p)
}

// List implements hcnService.
func (hcnDLL) List(kind hcnKind, query string) (string, error) {
	call := "HcnEnumerate" + string(kind) + "s"
	p, err := hcnProc(call)
	if err != nil {
		return "", err
	}
	q, err := windows.UTF16PtrFromString(query)
	if err != nil {
		return "", err
	}
	var ids, record *uint16
	r, _, _ := p.Call(uintptr(unsafe.Pointer(q)), uintptr(unsafe.Pointer(&ids)), uintptr(unsafe.Pointer(&record)))
	s := hcnTake(ids)
	return s, hcnResult(call, r, record)
}

// open opens an object; the caller closes the handle.
func (hcnDLL) open(kind hcnKind, id guid.GUID) (handle uintptr, err error) {
	call := "HcnOpen" + string(kind)
	p, err := hcnProc(call)
	if err != nil {
		return 0, err
	}
	var record *uint16
	r, _, _ := p.Call(uintptr(unsafe.Pointer(&id)), uintptr(unsafe.Pointer(&handle)), uintptr(unsafe.Pointer(&record)))
	return handle, hcnResult(call, r, record)
}

func (hcnDLL) close(kind hcnKind, handle uintptr) error {
	call := "HcnClose" + string(kind)
	p, err := hcnProc(call)
	if err != nil {
		return err
	}
	r, _, _ := p.Call(handle)
	return hcnResult(call, r, nil)
}

func (hcnDLL) properties(kind hcnKind, handle uintptr, query string) (string, error) {
	call := "HcnQuery" + string(kind) + "Properties"
	p, err := hcnProc(call)
	if err != nil {
		return "", err
	}
	q, err := windows.UTF16PtrFromString(query)
	if err != nil {
		return "", err
	}
	var properties, record *uint16
	r, _, _ := p.Call(handle, uintptr(unsafe.Pointer(q)), uintptr(unsafe.Pointer(&properties)), uintptr(unsafe.Pointer(&record)))
	s := hcnTake(properties)
	return s, hcnResult(call, r, record)
}

// Query implements hcnService.
func (d hcnDLL) Query(kind hcnKind, id guid.GUID, query string) (string, error) {
	handle, err := d.open(kind, id)
	if err != nil {
		return "", err
	}
	s, err := d.properties(kind, handle, query)
	return s, errors.Join(err, d.close(kind, handle))
}

// Create implements hcnService.
func (d hcnDLL) Create(kind hcnKind, network, id guid.GUID, settings, query string) (properties string, err error) {
	call := "HcnCreate" + string(kind)
	p, err := hcnProc(call)
	if err != nil {
		return "", err
	}
	s, err := windows.UTF16PtrFromString(settings)
	if err != nil {
		return "", err
	}
	var record *uint16
	var handle, r uintptr
	if kind == hcnEndpoints {
		on, err := d.open(hcnNetworks, network)
		if err != nil {
			return "", fmt.Errorf("network %s: %w", network, err)
		}
		r, _, _ = p.Call(on, uintptr(unsafe.Pointer(&id)), uintptr(unsafe.Pointer(s)), uintptr(unsafe.Pointer(&handle)), uintptr(unsafe.Pointer(&record)))
		err = d.close(hcnNetworks, on)
		if handle != 0 && err != nil { // a service that does not close handles has other troubles
			return "", errors.Join(err, d.close(kind, handle), d.Delete(kind, id))
		}
	} else {
		r, _, _ = p.Call(uintptr(unsafe.Pointer(&id)), uintptr(unsafe.Pointer(s)), uintptr(unsafe.Pointer(&handle)), uintptr(unsafe.Pointer(&record)))
	}
	if err := hcnResult(call, r, record); err != nil {
		if handle != 0 { // only a record says that it has failed
			err = errors.Join(err, d.close(kind, handle), d.Delete(kind, id))
		}
		return "", err
	}
	properties, err = d.properties(kind, handle, query)
	if err = errors.Join(err, d.close(kind, handle)); err != nil {
		err = errors.Join(err, d.Delete(kind, id))
	}
	return properties, err
}

// Modify implements hcnService.
func (d hcnDLL) Modify(kind hcnKind, id guid.GUID, settings string) error {
	call := "HcnModify" + string(kind)
	p, err := hcnProc(call)
	if err != nil {
		return err
	}
	s, err := windows.UTF16PtrFromString(settings)
	if err != nil {
		return err
	}
	handle, err := d.open(kind, id)
	if err != nil {
		return err
	}
	var record *uint16
	r, _, _ := p.Call(handle, uintptr(unsafe.Pointer(s)), uintptr(unsafe.Pointer(&record)))
	err = hcnResult(call, r, record)
	return errors.Join(err, d.close(kind, handle))
}

// Delete implements hcnService.
func (hcnDLL) Delete(kind hcnKind, id guid.GUID) error {
	call := "HcnDelete" + string(kind)
	p, err := hcnProc(call)
	if err != nil {
		return err
	}
	var record *uint16
	r, _, _ := p.Call(uintptr(unsafe.Pointer(&id)), uintptr(unsafe.Pointer(&record)))
	return hcnResult(call, r, record)
}
