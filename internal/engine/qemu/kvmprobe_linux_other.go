//go:build linux && !amd64

package qemu

// probe has no program for this processor: a /dev/kvm of the right version
// counts.
func (f *Facts) probe(int) {}

// tscKHz is 0: there is no such counter.
func tscKHz() int { return 0 }
