package place

import (
	"fmt"
	"strings"

	"github.com/Microsoft/go-winio/pkg/guid"
)

// An assigned device is known by a GUID, the key of its resource path. It is
// drawn by whoever writes the path, and its last byte is the slot.

// NewDeviceID draws a GUID for a device in the n-th slot for assigned
// devices.
func NewDeviceID(n int) (guid.GUID, error) {
	if n < 0 || n > 255 {
		return guid.GUID{}, fmt.Errorf("place: no slot %d for assigned devices", n)
	}
	g, err := guid.NewV4()
	if err != nil {
		return guid.GUID{}, fmt.Errorf("place: drawing a device id: %w", err)
	}
	g.Data4[7] = byte(n)
	return g, nil
}

// DeviceSlot returns the slot of the device id. It fails if that is no GUID,
// or there is no such slot.
func DeviceSlot(id string) (int, error) {
	g, err := guid.FromString(strings.ToLower(id))
	if err != nil {
		return 0, fmt.Errorf("place: device id %q: %w", id, err)
	}
	if n := int(g.Data4[7]); n < MaxAssigned {
		return n, nil
	}
	return 0, fmt.Errorf("place: no slot for device %s", id)
}
