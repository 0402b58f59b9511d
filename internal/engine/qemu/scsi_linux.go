package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

// A disk is an attachment of a SCSI controller. Its parts in QEMU, in the
// order in which they are made: the descriptor set of its file, the block
// node of its format, the device on the bus.
type disk struct {
	path     hcs.Path
	file     *os.File // nil once QEMU has it
	name     string   // of the file
	image    image
	block    bool // a block device of the host
	readOnly bool
	noFlush  bool
	set      int // id of the descriptor set
}

func openAttachment(p hcs.Path, a *hcsschema.Attachment) (*disk, error) {
	if err := checkAttachment(a); err != nil {
		return nil, err
	}
	f, fi, err := openDisk(a.Path, a.ReadOnly)
	if err != nil {
		return nil, fmt.Errorf("opening the disk: %w", err)
	}
	d := &disk{path: p, file: f, name: a.Path, readOnly: a.ReadOnly, noFlush: a.IgnoreFlushes, block: isBlockDevice(fi)}
	if d.block != (a.Type == hcsschema.AttachmentPassThru) {
		err = fmt.Errorf("%s does not fit an attachment of type %s", a.Path, a.Type)
	} else if !d.block {
		d.image, err = probe(f, fi.Size(), a.Path)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("disk %s: %w", a.Path, err)
	}
	return d, nil
}

// checkAttachment refuses the members that have no effect here.
func checkAttachment(a *hcsschema.Attachment) error {
	switch a.Type {
	case hcsschema.AttachmentVirtualDisk, hcsschema.AttachmentPassThru:
	default:
		return fmt.Errorf("%w: attachment of type %q", hcs.ErrNotSupported, a.Type)
	}
	for _, m := range hcs.Members(a) {
		switch m {
		case "Type", "Path", "ReadOnly", "IgnoreFlushes":
		default:
			return fmt.Errorf("%w: member %s of an attachment", hcs.ErrNotSupported, m)
		}
	}
	if a.Path == "" {
		return errors.New("attachment has no Path")
	}
	return nil
}

func (d *disk) id() string   { return fmt.Sprintf("scsi-%d-%d", d.path.Controller, d.path.Number) }
func (d *disk) node() string { return "disk-" + d.id() }

func (d *disk) writes() bool         { return !d.readOnly }
func (d *disk) is(other device) bool { return false } // never kept

func (d *disk) close() {
	if d.file != nil {
		d.file.Close()
		d.file = nil
	}
}

func (d *disk) add(ctx context.Context, s *system) (err error) {
	var undo []func() error
	defer func() {
		if err == nil {
			d.close() // QEMU has its own descriptor
			return
		}
		for i := len(undo) - 1; i >= 0; i-- {
			err = errors.Join(err, undo[i]())
		}
	}()
	if d.set, err = s.passFile(ctx, d.file); err != nil {
		return err
	}
	undo = append(undo, func() error { return s.dropFile(ctx, d.set) })
	if err := s.qmp.Execute(ctx, "blockdev-add", d.blockdev(s.m.limitsDisks()), nil); err != nil {
		return fmt.Errorf("opening %s: %w", d.name, err)
	}
	undo = append(undo, func() error { return s.dropNode(ctx, d.node()) })
	return s.qmp.Execute(ctx, "device_add", map[string]any{
		"driver": "scsi-hd", "id": d.id(), "drive": d.node(), "bus": "scsi.0",
		"channel": 0, "scsi-id": d.path.Controller, "lun": d.path.Number,
	}, nil)
}

// blockdev describes the node: its format is never guessed by QEMU. A limited
// disk shares the limits with all others.
func (d *disk) blockdev(limited bool) map[string]any {
	driver := "file"
	if d.block {
		driver = "host_device"
	}
	cache := map[string]any{"direct": false, "no-flush": d.noFlush}
	node := map[string]any{
		"node-name": d.node(), "read-only": d.readOnly, "cache": cache,
		"file": map[string]any{
			"driver": driver, "filename": "/dev/fdset/" + strconv.Itoa(d.set),
			"read-only": d.readOnly, "cache": cache, "discard": "unmap",
		},
	}
	switch d.image.format {
	case formatVHDX:
		node["driver"] = "vhdx"
	case formatDynamic:
		node["driver"] = "vpc"
	default:
		node["driver"], node["discard"] = "raw", "unmap"
		if d.image.format == formatFixed {
			// What lies before the footer, whatever its geometry says.
			node["size"] = d.image.size
		}
	}
	if !limited {
		return node
	}
	delete(node, "node-name")
	return map[string]any{
		"driver": "throttle", "node-name": d.node(), "throttle-group": diskGroup,
		"read-only": d.readOnly, "cache": cache, "discard": "unmap", "file": node,
	}
}

func (d *disk) remove(ctx context.Context, s *system) (kept bool, err error) {
	if err := s.deleteDevice(ctx, d.id()); err != nil {
		return false, err
	}
	if err := s.dropNode(ctx, d.node()); err != nil {
		return false, err
	}
	return false, s.dropFile(ctx, d.set)
}
