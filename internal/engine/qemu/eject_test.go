//go:build linux

package qemu

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/hns/hnstest"
	"github.com/byrevm/byre/internal/place"
)

// eject does what the ACPI of a guest does to eject the adapter in a slot of the
// first bridge: it selects the bus and writes the slot's bit.
func eject(ctx context.Context, t *testing.T, s *system, slot int) {
	t.Helper()
	const selectPort, ejectPort = 0xcd0, 0xcc8
	var bus int
	id := bridgeID("nic", 0)
	err := s.qmp.Execute(ctx, "qom-get", map[string]any{"path": "/machine/peripheral/" + id + "/" + id, "property": "acpi-pcihp-bsel"}, &bus)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ port, value int }{{selectPort, bus}, {ejectPort, 1 << slot}} {
		var said string
		line := fmt.Sprintf("o /w %#x %#x", x.port, x.value)
		if err := s.qmp.Execute(ctx, "human-monitor-command", map[string]any{"command-line": line}, &said); err != nil || said != "" {
			t.Fatalf("%s: %q, %v", line, said, err)
		}
	}
}

// hasDevice reports whether QEMU has a device.
func hasDevice(ctx context.Context, s *system, id string) bool {
	var typ string
	return s.qmp.Execute(ctx, "qom-get", map[string]any{"path": "/machine/peripheral/" + id, "property": "type"}, &typ) == nil
}

// A guest that looks twice ejects twice: the second time an adapter that it has
// not seen yet.
func TestEjectedTwice(t *testing.T) {
	s := running(t)
	s.network = &links{Network: hnstest.New()}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	path := hcs.NetworkPath(fmt.Sprintf(adapterID, 1))
	add := func() {
		t.Helper()
		if err := modify(ctx, s, hcsschema.Add, path, hcsschema.NetworkAdapter{EndpointId: "01"}); err != nil {
			t.Fatal(err)
		}
	}
	id := "nic-" + fmt.Sprintf(adapterID, 1)
	add()
	for range 3 {
		eject(ctx, t, s, place.Network(0).Slot())
		for !hasDevice(ctx, s, id) {
			if ctx.Err() != nil {
				t.Fatal("the adapter is lost")
			}
		}
	}

	// One that is to go stays away.
	removed := make(chan error, 1)
	go func() { removed <- modify(ctx, s, hcsschema.Remove, path, nil) }()
	for done := false; !done; {
		select {
		case err := <-removed:
			if err != nil {
				t.Errorf("removing: %v", err)
			}
			done = true
		default:
			eject(ctx, t, s, place.Network(0).Slot())
		}
	}
	if hasDevice(ctx, s, id) {
		t.Error("the adapter is there after it was removed")
	}

	// One that was there for longer has gone because the guest wants that.
	// It has another place: the guest may not be done with the first.
	add()
	if s.nics.slots[1] == nil {
		t.Fatal("the adapter is in the slot that has just become free")
	}
	s.mu.Lock()
	s.plugged[id].until = time.Now().Add(-time.Second)
	s.mu.Unlock()
	eject(ctx, t, s, place.Network(1).Slot())
	if err := modify(ctx, s, hcsschema.Remove, path, nil); err != nil {
		t.Errorf("removing what the guest has ejected: %v", err)
	}
	if hasDevice(ctx, s, id) {
		t.Error("the adapter is there after it was removed")
	}
}

// A device of two functions comes back when both are out, as a whole.
func TestEjectedFunctions(t *testing.T) {
	s := running(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const slot = 9
	plugs := make(chan error, 10)
	plug := func(ctx context.Context) error {
		err := errors.Join(s.qmp.Execute(ctx, "device_add", map[string]any{
			"driver": "pci-testdev", "id": "f1", "bus": bridgeID("nic", 0), "addr": fmt.Sprintf("%#x.1", slot),
		}, nil), s.qmp.Execute(ctx, "device_add", map[string]any{
			"driver": "pci-testdev", "id": "f0", "bus": bridgeID("nic", 0), "addr": fmt.Sprintf("%#x.0", slot), "multifunction": true,
		}, nil))
		plugs <- err
		return err
	}
	if err := s.plugIn(ctx, plug, "f0", "f1"); err != nil {
		t.Fatal(err)
	}
	<-plugs
	for range 2 {
		eject(ctx, t, s, slot)
		select {
		case err := <-plugs:
			if err != nil || !hasDevice(ctx, s, "f0") || !hasDevice(ctx, s, "f1") {
				t.Errorf("function 0 %v, function 1 %v, %v", hasDevice(ctx, s, "f0"), hasDevice(ctx, s, "f1"), err)
			}
		case <-ctx.Done():
			t.Fatal("the device is lost")
		}
	}
	if err := s.letGo(ctx, "f0"); err != nil {
		t.Error(err)
	}
	if len(s.plugged) != 0 {
		t.Errorf("left behind: %v", s.plugged)
	}
}
