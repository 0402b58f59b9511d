package qemu

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/place"
)

// pmemAlign is what the content of a persistent-memory device must be a
// multiple of, so that guests can map it by large pages.
const pmemAlign = 2 << 20

// A pmem is a persistent-memory device. The guest sees the file's pages
// themselves, and can never write to them: the file is open for reading only.
type pmem struct {
	number int
	file   *os.File // nil once QEMU has it
	copied *os.File // what QEMU gets if its user may not read file
	info   fs.FileInfo
	size   int64
}

func openPMem(m *machine, p hcs.Path, d *hcsschema.VirtualPMemDevice, cred *syscall.Credential) (*pmem, error) {
	switch {
	case d.HostPath == "":
		return nil, errors.New("persistent-memory device has no HostPath")
	case !d.ReadOnly:
		return nil, fmt.Errorf("%w: persistent memory that is not ReadOnly", hcs.ErrNotSupported)
	case d.ImageFormat != "" && d.ImageFormat != hcsschema.ImageFormatVhd1 && d.ImageFormat != hcsschema.ImageFormatVhdx:
		return nil, fmt.Errorf("%w: ImageFormat %q", hcs.ErrNotSupported, d.ImageFormat)
	}
	f, fi, err := openRegular(d.HostPath)
	if err != nil {
		return nil, fmt.Errorf("opening the image: %w", err)
	}
	pm := &pmem{number: p.Number, file: f, info: fi}
	if pm.size, err = pmemSize(m, f, fi.Size()); err == nil {
		pm.copied, err = readable(f, pm.size, cred)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("persistent memory %s: %w", d.HostPath, err)
	}
	return pm, nil
}

// pmemSize returns the size of an image's content, if a guest can map it.
func pmemSize(m *machine, f *os.File, size int64) (int64, error) {
	img, err := probe(f, size, f.Name())
	switch {
	case err != nil:
		return 0, err
	case img.format != formatRaw && img.format != formatFixed:
		return 0, fmt.Errorf("%w: a %s, whose content is not in one piece", hcs.ErrNotSupported, img.format)
	case img.size%pmemAlign != 0:
		return 0, fmt.Errorf("%d bytes are not a multiple of 2 MiB", img.size)
	case img.size > m.pmemMax:
		return 0, fmt.Errorf("%d bytes are more than the %d of a device", img.size, m.pmemMax)
	}
	return img.size, nil
}

func (p *pmem) writes() bool { return false }

func (p *pmem) is(other device) bool {
	o, ok := other.(*pmem)
	return ok && os.SameFile(p.info, o.info) && p.size == o.size && p.info.ModTime().Equal(o.info.ModTime())
}

func (p *pmem) close() {
	if p.file == nil {
		return
	}
	if p.copied != p.file {
		p.copied.Close()
	}
	p.file.Close()
	p.file, p.copied = nil, nil
}

func (p *pmem) add(ctx context.Context, s *system) error {
	var set struct {
		ID int `json:"fdset-id"`
		FD int `json:"fd"`
	}
	if err := s.qmp.ExecuteFile(ctx, "add-fd", nil, &set, p.copied); err != nil {
		return err
	}
	memory := fmt.Sprintf("pmem-memory-%d", p.number)
	err := s.qmp.Execute(ctx, "object-add", map[string]any{
		"qom-type": "memory-backend-file", "id": memory, "mem-path": fmt.Sprintf("/proc/self/fd/%d", set.FD),
		"size": p.size, "share": true, "readonly": true,
	}, nil)
	// The mapping does not need the descriptor.
	err = errors.Join(err, s.dropFile(ctx, set.ID))
	if err != nil {
		return err
	}
	at := place.VPMem(p.number)
	err = s.qmp.Execute(ctx, "device_add", map[string]any{
		"driver": "virtio-pmem-pci", "id": fmt.Sprintf("pmem-%d", p.number), "memdev": memory,
		"bus": bridgeID("pmem", p.number/place.SlotsPerBridge), "addr": fmt.Sprintf("%#x", at.Slot()),
		"disable-legacy": "on", // or it has ports too, one more of 128 ranges to look through
	}, nil)
	if err != nil {
		return errors.Join(err, s.qmp.Execute(ctx, "object-del", map[string]any{"id": memory}, nil))
	}
	p.close()
	return nil
}

// remove does nothing: QEMU cannot unplug persistent memory. The guest has
// unmounted it.
func (p *pmem) remove(context.Context, *system) (kept bool, err error) { return true, nil }
