package hcstest

import (
	"encoding/json"
	"fmt"
	"sync"

	"github.com/Microsoft/go-winio/pkg/guid"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

// maxLUNs is how many disks a SCSI controller takes.
const maxLUNs = 64

// devices is what a system has in its slots.
type devices struct {
	e       *Engine
	luns    map[int]bool // the SCSI controllers that there are
	maximum int          // of persistent-memory devices

	mu      sync.Mutex
	present map[string]device // by resource path; shares by path and "#" and name
	retired map[string]string // slots of persistent memory that only one file can use again
}

type device struct {
	file     string
	settings json.RawMessage
}

// newDevices returns the devices that a document has from the start.
func (e *Engine) newDevices(cs *hcsschema.ComputeSystem) (*devices, error) {
	d := &devices{e: e, luns: make(map[int]bool), present: make(map[string]device), retired: make(map[string]string)}
	doc := cs.VirtualMachine.Devices
	if doc == nil {
		return d, nil
	}
	var reqs []*hcsschema.ModifySettingRequest
	add := func(path string, settings any) {
		reqs = append(reqs, &hcsschema.ModifySettingRequest{ResourcePath: path, RequestType: hcsschema.Add, Settings: settings})
	}
	for name, c := range doc.Scsi {
		p, err := hcs.ParsePath("VirtualMachine/Devices/Scsi/" + name + "/Attachments/0")
		if err != nil {
			return nil, fmt.Errorf("%w: SCSI controller %q", hcs.ErrNotSupported, name)
		}
		d.luns[p.Controller] = true
		for lun, a := range c.Attachments {
			add("VirtualMachine/Devices/Scsi/"+name+"/Attachments/"+lun, a)
		}
	}
	if v := doc.VirtualPMem; v != nil {
		d.maximum = int(v.MaximumCount)
		for n, dev := range v.Devices {
			add("VirtualMachine/Devices/VirtualPMem/Devices/"+n, dev)
		}
	}
	for id, n := range doc.NetworkAdapters {
		add(hcs.NetworkPath(id), n)
	}
	for id, p := range doc.VirtualPci {
		add(hcs.PCIPath(id), p)
	}
	if doc.Plan9 != nil {
		for _, s := range doc.Plan9.Shares {
			add(hcs.PathPlan9, s)
		}
	}
	if doc.VirtualSmb != nil {
		for _, s := range doc.VirtualSmb.Shares {
			add(hcs.PathVSMB, s)
		}
	}
	for _, r := range reqs {
		if _, err := d.apply(r); err != nil {
			return nil, fmt.Errorf("%s: %w", r.ResourcePath, err)
		}
	}
	return d, nil
}

// apply carries a request out and returns how it is undone.
func (d *devices) apply(req *hcsschema.ModifySettingRequest) (undo func(), err error) {
	path, err := hcs.ParsePath(req.ResourcePath)
	if err != nil {
		return nil, err
	}
	if path.Resource == hcs.ResourceMemory || path.Resource == hcs.ResourceProcessorLimits {
		if req.RequestType != hcsschema.Update && req.RequestType != "" {
			return nil, fmt.Errorf("%w: %s of %s", hcs.ErrNotSupported, req.RequestType, req.ResourcePath)
		}
		return func() {}, nil
	}
	key, dev, err := d.parse(path, req)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	old, had := d.present[key]
	oldFile, wasRetired := d.retired[key]
	undo = func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.present, key)
		delete(d.retired, key)
		if had {
			d.present[key] = old
		}
		if wasRetired {
			d.retired[key] = oldFile
		}
	}
	switch req.RequestType {
	case hcsschema.Add:
		if had || wasRetired && oldFile != dev.file {
			return nil, hcs.ErrAlreadyExists
		}
		if err := d.e.checkFile(dev.file); dev.file != "" && err != nil {
			return nil, err
		}
		d.present[key] = dev
		delete(d.retired, key)
	case hcsschema.Update:
		if !had {
			return nil, hcs.ErrNotFound
		}
		d.present[key] = dev
	case hcsschema.Remove:
		if !had {
			return nil, hcs.ErrNotFound
		}
		delete(d.present, key)
		if path.Resource == hcs.ResourceVPMem && !d.e.config.Host.PMemRemovable {
			d.retired[key] = old.file
		}
	default:
		return nil, fmt.Errorf("%w: request type %q", hcs.ErrNotSupported, req.RequestType)
	}
	return undo, nil
}

// parse checks a request and returns the key of its device.
func (d *devices) parse(path hcs.Path, req *hcsschema.ModifySettingRequest) (key string, dev device, err error) {
	key = req.ResourcePath
	removing := req.RequestType == hcsschema.Remove
	settings := func(v any) error {
		if req.Settings == nil && removing {
			return nil
		}
		return hcs.Decode(req.Settings, v)
	}
	if req.Settings != nil {
		if dev.settings, err = json.Marshal(req.Settings); err != nil {
			return "", dev, err
		}
	}
	switch path.Resource {
	case hcs.ResourceSCSI:
		var a hcsschema.Attachment
		if !d.luns[path.Controller] || path.Number >= maxLUNs {
			return "", dev, fmt.Errorf("%w: no slot %s", hcs.ErrNotFound, key)
		}
		err = settings(&a)
		dev.file = a.Path
	case hcs.ResourceVPMem:
		var v hcsschema.VirtualPMemDevice
		if path.Number >= d.maximum {
			return "", dev, fmt.Errorf("%w: no slot %s", hcs.ErrNotFound, key)
		}
		err = settings(&v)
		dev.file = v.HostPath
	case hcs.ResourceNetwork:
		err = settings(new(hcsschema.NetworkAdapter))
	case hcs.ResourcePCI:
		if !d.e.hasPCISlot(path.Name) {
			return "", dev, fmt.Errorf("%w: no slot %s", hcs.ErrNotFound, key)
		}
		err = settings(new(hcsschema.VirtualPciDevice))
	case hcs.ResourcePlan9:
		var s hcsschema.Plan9Share
		err = hcs.Decode(req.Settings, &s)
		key += "#" + s.Name
		dev.file = s.Path
	case hcs.ResourceVSMB:
		var s hcsschema.VirtualSmbShare
		err = hcs.Decode(req.Settings, &s)
		key += "#" + s.Name
		dev.file = s.Path
	case hcs.ResourcePipe:
		if req.Settings != nil { // a Unix socket, which is a file
			err = settings(new(hcsschema.PipeSocket))
			dev.file = path.Name
		}
	default:
		err = fmt.Errorf("%w: resource path %q", hcs.ErrNotSupported, key)
	}
	return key, dev, err
}

// hasPCISlot reports whether there is a place for the device id, whose last
// byte is the slot.
func (e *Engine) hasPCISlot(id string) bool {
	if e.config.Host.PCIDevices == 0 {
		return true
	}
	g, err := guid.FromString(id)
	return err == nil && int(g.Data4[7]) < e.config.Host.PCIDevices
}

// has reports whether a device is present.
func (d *devices) has(key string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.present[key]
	return ok
}

// list returns the settings of what is present.
func (d *devices) list() map[string]json.RawMessage {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := make(map[string]json.RawMessage, len(d.present))
	for k, dev := range d.present {
		m[k] = dev.settings
	}
	return m
}
