//go:build linux

package network

import (
	"os"
	"path/filepath"
	"strings"
)

// sysfs is a variable for tests.
var sysfs = "/sys"

func vmbusDevices() string { return filepath.Join(sysfs, "bus/vmbus/devices") }

// adapterModule is the driver of the adapters that the host plugs in.
func adapterModule() string {
	if _, err := os.Stat(vmbusDevices()); err == nil {
		return "hv_netvsc"
	}
	return "virtio_net"
}

// vmbusLink returns the name of the link of an adapter on Hyper-V's VMBus, ""
// if it has none yet. It reports false if there is no such device: the bus
// names its devices as the host names its adapters, and the MAC address of one
// is also that of the hardware that may serve it.
func vmbusLink(id string) (name string, ok bool) {
	if id == "" || strings.ContainsAny(id, "/.") {
		return "", false
	}
	dir := filepath.Join(vmbusDevices(), strings.ToLower(id))
	if _, err := os.Stat(dir); err != nil {
		return "", false
	}
	if links, err := os.ReadDir(filepath.Join(dir, "net")); err == nil && len(links) == 1 {
		name = links[0].Name()
	}
	return name, true
}
