package place

import "testing"

func TestPlacesDiffer(t *testing.T) {
	seen := make(map[string]string)
	add := func(kind string, n int, p PCI) {
		if old, ok := seen[p.Sysfs()]; ok {
			t.Errorf("%s %d is at %s, where %s is", kind, n, p.Sysfs(), old)
		}
		seen[p.Sysfs()] = kind
		if p.Port() > 0x1e {
			t.Errorf("%s %d: root port %#x collides with the chipset", kind, n, p.Port())
		}
	}
	for n := range MaxVPMem {
		add("vpmem", n, VPMem(n))
	}
	for n := range MaxNetwork {
		add("network", n, Network(n))
	}
	for n := range MaxAssigned {
		add("assigned", n, Assigned(n))
	}
}

func TestSysfs(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{VPMem(0).Sysfs(), "/sys/devices/pci0000:00/0000:00:10.0/0000:??:01.0"},
		{VPMem(127).Sysfs(), "/sys/devices/pci0000:00/0000:00:14.0/0000:??:04.0"},
		{Network(31).Sysfs(), "/sys/devices/pci0000:00/0000:00:16.0/0000:??:01.0"},
		{Assigned(3).Sysfs(), "/sys/devices/pci0000:00/0000:00:1b.0/0000:??:00.0"},
		{SCSI(3, 63), "0:0:3:63"},
	} {
		if c.got != c.want {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
}
