package qemu

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/hns"
	"github.com/byrevm/byre/internal/place"
)

// A nic is a network adapter. Its parts in QEMU, in the order in which they
// are made: the descriptor of its link, which the network back-end takes over,
// the back-end, the device behind a bridge.
type nic struct {
	name string // the adapter's id, lower-case
	mac  string // with colons, lower-case
	slot int    // its place
	end  *hns.NIC
	all  *nics
	log  *slog.Logger
}

// nics are the adapters that a system has, by their places.
type nics struct {
	mu    sync.Mutex
	slots [place.MaxNetwork]*nic
	next  int // where a free slot is looked for first
}

// openNIC opens the host's end of an adapter and takes its MAC address, by
// which the guest finds it.
func (s *system) openNIC(ctx context.Context, name string, a *hcsschema.NetworkAdapter) (_ *nic, err error) {
	o, ok := s.network.(hns.Opener)
	if !ok {
		return nil, fmt.Errorf("%w: network adapters, as the network of this system has no NICs for QEMU", hcs.ErrNotSupported)
	}
	end, err := o.OpenNIC(ctx, a.EndpointId)
	switch {
	case errors.Is(err, hns.ErrNotFound):
		return nil, fmt.Errorf("%w: %w", hcs.ErrNotFound, err)
	case errors.Is(err, hns.ErrAlreadyExists):
		return nil, fmt.Errorf("%w: %w", hcs.ErrAlreadyExists, err)
	case errors.Is(err, hns.ErrNotSupported):
		return nil, fmt.Errorf("%w: %w", hcs.ErrNotSupported, err)
	case err != nil:
		return nil, err
	}
	n := &nic{name: name, mac: end.MAC, end: end, all: &s.nics, log: s.log}
	if a.MacAddress != "" {
		if n.mac, err = parseMAC(a.MacAddress); err != nil {
			return nil, errors.Join(err, end.Close())
		}
	}
	if err := n.all.take(n); err != nil {
		return nil, errors.Join(err, end.Close())
	}
	return n, nil
}

// take gives n a place: the next one, not one that has just become free. A
// guest may still have an ejection to do there, see [system.plugIn].
func (all *nics) take(n *nic) error {
	all.mu.Lock()
	defer all.mu.Unlock()
	free := -1
	for i := range all.slots {
		i = (all.next + i) % len(all.slots)
		switch other := all.slots[i]; {
		case other == nil && free < 0:
			free = i
		case other != nil && other.mac == n.mac:
			return fmt.Errorf("%w: network adapter with MAC address %s", hcs.ErrAlreadyExists, n.mac)
		}
	}
	if free < 0 {
		return fmt.Errorf("%w: more than %d network adapters", hcs.ErrNotSupported, len(all.slots))
	}
	n.slot, all.next = free, free+1
	all.slots[free] = n
	return nil
}

// close closes the adapters of a system whose QEMU has ended.
func (all *nics) close() {
	for _, n := range all.slots {
		if n != nil {
			n.close()
		}
	}
}

func (n *nic) id() string      { return "nic-" + n.name }
func (n *nic) backEnd() string { return "net-" + n.name }

func (n *nic) writes() bool         { return false }
func (n *nic) is(other device) bool { return false } // never kept

func (n *nic) close() {
	n.all.mu.Lock()
	n.all.slots[n.slot] = nil
	n.all.mu.Unlock()
	if err := n.end.Close(); err != nil {
		n.log.Warn("network adapter's end on the host was not closed", "adapter", n.name, "err", err)
	}
}

func (n *nic) add(ctx context.Context, s *system) (err error) {
	fd := map[string]any{"fdname": n.backEnd()}
	if err := s.qmp.ExecuteFile(ctx, "getfd", fd, nil, n.end.Link); err != nil {
		return err
	}
	// Not of type "stream": that connects later, in a thread that knows no
	// names of descriptors, and then drops what the guest sends.
	link := map[string]any{"type": "socket", "id": n.backEnd(), "fd": n.backEnd()}
	if n.end.Tap {
		// Without vhost: what the kernel would do then goes by a path that
		// QEMU's sandbox does not see.
		link["type"], link["vhost"] = "tap", false
	}
	err = s.qmp.Execute(ctx, "netdev_add", link, nil)
	if err != nil {
		// Whether it still has the descriptor depends on where it failed.
		_ = s.qmp.Execute(ctx, "closefd", fd, nil)
		return fmt.Errorf("connecting the network: %w", err)
	}
	err = s.plugIn(ctx, func(ctx context.Context) error {
		return s.qmp.Execute(ctx, "device_add", n.device(), nil)
	}, n.id())
	if err != nil {
		return errors.Join(err, s.dropBackEnd(ctx, n))
	}
	n.end.Link.Close() // QEMU has its own descriptor
	return nil
}

// device describes the adapter. It has no ROM: nothing boots from it.
func (n *nic) device() map[string]any {
	p := place.Network(n.slot)
	return map[string]any{
		"driver": "virtio-net-pci", "id": n.id(), "netdev": n.backEnd(), "mac": n.mac,
		"bus": bridgeID("nic", n.slot/place.SlotsPerBridge), "addr": fmt.Sprintf("%#x", p.Slot()),
		"disable-legacy": "on", "romfile": "", "host_mtu": n.end.MTU,
	}
}

func (n *nic) remove(ctx context.Context, s *system) (kept bool, err error) {
	if err := s.letGo(ctx, n.id()); err != nil {
		return false, err
	}
	if err := s.deleteDevice(ctx, n.id()); err != nil {
		return false, err
	}
	return false, s.dropBackEnd(ctx, n)
}

func (s *system) dropBackEnd(ctx context.Context, n *nic) error {
	return s.qmp.Execute(ctx, "netdev_del", map[string]any{"id": n.backEnd()}, nil)
}
