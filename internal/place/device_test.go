package place

import "testing"

func TestDeviceID(t *testing.T) {
	seen := make(map[string]bool)
	for n := range MaxAssigned {
		for range 100 {
			g, err := NewDeviceID(n)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := DeviceSlot(g.String()); got != n || err != nil || seen[g.String()] {
				t.Errorf("device %s of slot %d: slot %d, %v", g, n, got, err)
			}
			seen[g.String()] = true
		}
	}
	for _, n := range []int{-1, 256} {
		if g, err := NewDeviceID(n); err == nil {
			t.Errorf("slot %d: %s", n, g)
		}
	}
	for _, id := range []string{"", "x", "99999999-0000-4000-8000-0000000000ff"} {
		if n, err := DeviceSlot(id); err == nil {
			t.Errorf("device %q: slot %d", id, n)
		}
	}
}
