package qemu

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestDecide(t *testing.T) {
	good := Facts{Arch: "amd64", Flag: true, APIVersion: 12, Probed: true, ProbeTook: 50 * time.Microsecond}
	with := func(change func(*Facts)) Facts {
		f := good
		change(&f)
		return f
	}
	noDevice := with(func(f *Facts) {
		f.OpenErr, f.APIVersion, f.Probed = errors.New("opening /dev/kvm: no such file"), 0, false
	})
	for _, c := range []struct {
		name, wanted  string
		facts         Facts
		accel, reason string // a part of the reason, or of the error if accel is ""
	}{
		{"real", AccelAuto, good, AccelKVM, "works"},
		{"unset is auto", "", good, AccelKVM, "works"},
		{"no device", AccelAuto, noDevice, AccelTCG, "no such file"},
		{"not allowed", AccelAuto, with(func(f *Facts) { f.OpenErr = errors.New("permission denied") }), AccelTCG, "permission denied"},
		// Of a host that runs its own kernels without hardware: everything
		// about /dev/kvm looks right.
		{"paravirtual, by flag", AccelAuto, with(func(f *Facts) { f.Flag = false }), AccelTCG, "vmx or svm"},
		{"paravirtual, by time", AccelAuto, with(func(f *Facts) { f.ProbeTook = 45 * time.Millisecond }), AccelTCG, "45ms"},
		{"stalls", AccelAuto, with(func(f *Facts) { f.ProbeErr = errors.New("a short loop did not end") }), AccelTCG, "did not end"},
		{"old", AccelAuto, with(func(f *Facts) { f.APIVersion = 11 }), AccelTCG, "11"},
		{"slow host", AccelAuto, with(func(f *Facts) { f.ProbeTook = 2 * time.Millisecond }), AccelKVM, "works"},
		{"arm64 has no flag", AccelAuto, Facts{Arch: "arm64", APIVersion: 12}, AccelKVM, "works"},
		{"arm64 without device", AccelAuto, Facts{Arch: "arm64", OpenErr: errors.New("nothing")}, AccelTCG, "nothing"},
		{"tcg wanted", AccelTCG, good, AccelTCG, "asked"},
		{"kvm wanted in spite of signs", AccelKVM, with(func(f *Facts) { f.Flag = false }), AccelKVM, "asked"},
		{"kvm wanted and missing", AccelKVM, noDevice, "", "no such file"},
		{"unknown", "xen", good, "", "xen"},
	} {
		t.Run(c.name, func(t *testing.T) {
			accel, reason, err := Decide(c.wanted, c.facts)
			if err != nil {
				reason = err.Error()
			}
			if accel != c.accel || (err == nil) != (c.accel != "") || !strings.Contains(reason, c.reason) {
				t.Errorf("got %q, %q, %v; want %q, %q", accel, reason, err, c.accel, c.reason)
			}
		})
	}
}
