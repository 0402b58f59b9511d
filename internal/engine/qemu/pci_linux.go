package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/place"
)

// maxFunctions is how many functions a PCI device has.
const maxFunctions = 8

// pcis are the PCI devices of the host that a system has.
type pcis struct {
	host vfioHost

	mu     sync.Mutex // held while a device is given or taken, which no guest can delay
	slots  [place.MaxAssigned]*pciDevice
	groups map[int]*group
}

// A group is an IOMMU group, some devices of which a system has.
type group struct {
	lock *os.File
	lent lentGroup
	used map[string]bool // addresses
}

// A pciDevice is functions of the host as one device behind a root port.
type pciDevice struct {
	slot      int
	functions []string // addresses on the host, the function 0 first
	groups    []int    // of each
	all       *pcis
	held      bool // add has taken the functions
	sys       *system
}

// pciFunctions returns the addresses and groups of the functions of a device.
// It refuses, before anything is touched, what cannot be given to a guest.
func (all *pcis) pciFunctions(d *hcsschema.VirtualPciDevice) (addrs []string, groups []int, err error) {
	if n := len(d.Functions); n == 0 || n > maxFunctions {
		return nil, nil, fmt.Errorf("%w: a PCI device with %d functions: from 1 to %d", hcs.ErrNotSupported, n, maxFunctions)
	}
	for _, f := range d.Functions {
		addr, err := all.host.resolve(f)
		if err != nil {
			return nil, nil, err
		}
		if err := all.host.undivided(addr); err != nil {
			return nil, nil, err
		}
		g, err := all.host.group(addr)
		if err != nil {
			return nil, nil, err
		}
		if slices.Contains(addrs, addr) {
			return nil, nil, fmt.Errorf("%w: PCI device %s twice", hcs.ErrAlreadyExists, addr)
		}
		addrs, groups = append(addrs, addr), append(groups, g)
	}
	for _, g := range groups {
		if err := all.host.check(g, addrs); err != nil {
			return nil, nil, err
		}
	}
	return addrs, groups, nil
}

// openPCI checks a device and reserves its place.
func (s *system) openPCI(id string, d *hcsschema.VirtualPciDevice) (*pciDevice, error) {
	slot, err := place.DeviceSlot(id)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", hcs.ErrNotFound, err)
	}
	addrs, groups, err := s.pci.pciFunctions(d)
	if err != nil {
		return nil, err
	}
	p := &pciDevice{slot: slot, functions: addrs, groups: groups, all: &s.pci, sys: s}
	s.pci.mu.Lock()
	defer s.pci.mu.Unlock()
	if s.pci.slots[slot] != nil {
		return nil, fmt.Errorf("%w: an assigned device in slot %d", hcs.ErrAlreadyExists, slot)
	}
	s.pci.slots[slot] = p
	return p, nil
}

func (p *pciDevice) is(device) bool { return false } // never kept
func (p *pciDevice) writes() bool   { return false }

// close gives up what is not in the machine, and the place.
func (p *pciDevice) close() {
	p.all.mu.Lock()
	defer p.all.mu.Unlock()
	if err := p.putBack(); err != nil {
		p.sys.log.Warn("PCI device not given back", "devices", p.functions, "err", err)
	}
	p.all.slots[p.slot] = nil
}

func (p *pciDevice) id(n int) string { return fmt.Sprintf("pci-%d-%d", p.slot, n) }

func (p *pciDevice) add(ctx context.Context, s *system) error {
	if err := p.hold(); err != nil {
		return err
	}
	if err := s.allowLocked(ctx); err != nil {
		return err
	}
	var ids []string
	for n := range p.functions {
		ids = append(ids, p.id(n))
	}
	return s.plugIn(ctx, func(ctx context.Context) error { return p.plug(ctx, s) }, ids...)
}

func (p *pciDevice) plug(ctx context.Context, s *system) error {
	// The guest looks when function 0 comes, and then at all of them.
	for n := len(p.functions) - 1; n >= 0; n-- {
		if err := s.qmp.Execute(ctx, "device_add", p.device(n), nil); err != nil {
			err = fmt.Errorf("PCI device %s: %w", p.functions[n], err)
			for n++; n < len(p.functions); n++ { // the guest has not seen them
				err = errors.Join(err, s.deleteDevice(ctx, p.id(n)))
			}
			return err
		}
	}
	return nil
}

func (p *pciDevice) device(n int) map[string]any {
	d := map[string]any{
		"driver": "vfio-pci", "id": p.id(n), "sysfsdev": p.all.host.device(p.functions[n]),
		"bus": pciPortID(p.slot), "addr": fmt.Sprintf("0x0.%d", n),
	}
	if n == 0 && len(p.functions) > 1 {
		d["multifunction"] = true
	}
	return d
}

// remove unplugs function 0, with which the guest lets go of all, and gives
// the functions back to the host.
func (p *pciDevice) remove(ctx context.Context, s *system) (kept bool, err error) {
	if err := s.letGo(ctx, p.id(0)); err != nil {
		return false, err
	}
	for n := range p.functions {
		if err := s.deleteDevice(ctx, p.id(n)); err != nil {
			return false, err
		}
	}
	p.all.mu.Lock()
	defer p.all.mu.Unlock()
	return false, p.putBack()
}

// hold takes the functions from the host. Everything is written down before
// it is done.
func (p *pciDevice) hold() error {
	p.all.mu.Lock()
	defer p.all.mu.Unlock()
	p.held = true
	for i, addr := range p.functions {
		if err := p.holdOne(addr, p.groups[i]); err != nil {
			return errors.Join(err, p.putBack())
		}
	}
	for _, n := range p.groups {
		if err := p.open(p.all.groups[n]); err != nil {
			return errors.Join(err, p.putBack())
		}
	}
	return nil
}

func (p *pciDevice) holdOne(addr string, n int) error {
	all := p.all
	g := all.groups[n]
	if g == nil {
		lock, err := all.host.lockGroup(n)
		if err != nil {
			return err
		}
		g = &group{lock: lock, lent: lentGroup{Group: n}, used: make(map[string]bool)}
		if all.groups == nil {
			all.groups = make(map[int]*group)
		}
		all.groups[n] = g
	}
	if g.used[addr] {
		return fmt.Errorf("%w: PCI device %s", hcs.ErrAlreadyExists, addr)
	}
	g.used[addr] = true
	// Once more: now nobody else changes it.
	if err := all.host.check(n, append(keys(g.used), p.functions...)); err != nil {
		return err
	}
	driver, err := all.host.boundTo(addr)
	if err != nil || driver == vfioDriver {
		return err
	}
	b := borrowed{Address: addr, Driver: driver}
	g.lent.Devices = append(g.lent.Devices, b)
	if err := p.note(); err != nil {
		return err
	}
	return all.host.take(b)
}

// open lets the user that QEMU runs as open the group.
func (p *pciDevice) open(g *group) error {
	cred := p.sys.proc.cmd.SysProcAttr.Credential
	if cred == nil || g.lent.Node {
		return nil
	}
	path := p.all.host.node(g.lent.Group)
	fi, err := os.Stat(path)
	if err != nil {
		return err
	}
	st := fi.Sys().(*syscall.Stat_t)
	g.lent.Node, g.lent.UID, g.lent.GID = true, st.Uid, st.Gid
	if err := p.note(); err != nil {
		return err
	}
	return os.Chown(path, int(cred.Uid), int(cred.Gid))
}

// putBack gives the functions up. The devices of a group go back with the last
// of them that a system has: the kernel does not let a driver of its own into
// a group that somebody else uses. all.mu is held.
func (p *pciDevice) putBack() error {
	if !p.held {
		return nil
	}
	var errs []error
	for i, addr := range p.functions {
		g := p.all.groups[p.groups[i]]
		if g == nil || !g.used[addr] {
			continue
		}
		delete(g.used, addr)
		if len(g.used) > 0 {
			continue
		}
		if err := p.all.host.restore(g.lent); err != nil {
			g.used[addr] = true // so that it can be tried again
			errs = append(errs, err)
			continue
		}
		delete(p.all.groups, p.groups[i])
		errs = append(errs, p.note())
		g.lock.Close()
	}
	err := errors.Join(errs...)
	p.held = err != nil
	return err
}

// note writes down what is lent. all.mu is held.
func (p *pciDevice) note() error {
	var lent []lentGroup
	for _, g := range p.all.groups {
		if g.lent.Node || len(g.lent.Devices) > 0 {
			lent = append(lent, g.lent)
		}
	}
	slices.SortFunc(lent, func(a, b lentGroup) int { return a.Group - b.Group })
	return p.sys.claim.note(func(r *record) { r.Groups = lent })
}

// close lets go of the locks of a system that has ended, before its claim
// gives back what is lent.
func (all *pcis) close() {
	all.mu.Lock()
	defer all.mu.Unlock()
	for _, g := range all.groups {
		g.lock.Close()
	}
	all.groups = nil
}

// spareLocked is what QEMU may lock beyond the memory of the guest.
const spareLocked = 1 << 30

// allowLocked lets QEMU lock the guest's memory, at all of which a device may
// write.
func (s *system) allowLocked(ctx context.Context) error {
	var mem struct {
		Base uint64 `json:"base-memory"`
	}
	if err := s.qmp.Execute(ctx, "query-memory-size-summary", nil, &mem); err != nil {
		return err
	}
	want := mem.Base + spareLocked
	if s.m.pmemCount > 0 {
		want += uint64(pmemSpace(s.m))
	}
	var old unix.Rlimit
	if err := unix.Prlimit(s.proc.pid(), unix.RLIMIT_MEMLOCK, nil, &old); err != nil {
		return fmt.Errorf("reading how much memory QEMU may lock, as a PCI device needs: %w", err)
	}
	if old.Cur >= want {
		return nil
	}
	limit := unix.Rlimit{Cur: want, Max: max(want, old.Max)}
	if err := unix.Prlimit(s.proc.pid(), unix.RLIMIT_MEMLOCK, &limit, nil); err != nil {
		return fmt.Errorf("letting QEMU lock %d MiB of memory, as a PCI device needs: %w", want>>20, err)
	}
	return nil
}

func keys(m map[string]bool) []string {
	var all []string
	for k := range m {
		all = append(all, k)
	}
	return all
}
