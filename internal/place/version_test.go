package place

import (
	"crypto/sha256"
	"fmt"
	"testing"
)

// A place that moves makes boot files of before useless: then Version and the
// digest here change together.
func TestVersion(t *testing.T) {
	const version, digest = 1, "f531678e9e7a4b87"
	h := sha256.New()
	for n := range MaxVPMem {
		fmt.Fprintln(h, "vpmem", n, VPMem(n))
	}
	for n := range MaxNetwork {
		fmt.Fprintln(h, "network", n, Network(n))
	}
	for n := range MaxAssigned {
		fmt.Fprintln(h, "assigned", n, Assigned(n))
	}
	for c := range MaxSCSIControllers {
		for l := range MaxLUNs {
			fmt.Fprintln(h, "scsi", c, l, SCSI(c, l))
		}
	}
	if got := fmt.Sprintf("%x", h.Sum(nil)[:8]); got != digest || Version != version {
		t.Errorf("places have digest %s and version %d, want %s and %d: raise the version when places move", got, Version, digest, version)
	}
	if want := fmt.Sprintf("byre-places:%d;", Version); Marker != want {
		t.Errorf("the marker is %q, want %q", Marker, want)
	}
}
