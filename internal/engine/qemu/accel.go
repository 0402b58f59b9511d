package qemu

import (
	"fmt"
	"time"
)

// Values of [Config] Accel and of the environment variable BYRE_ACCEL.
const (
	AccelAuto = "auto" // KVM where it works, else TCG
	AccelKVM  = "kvm"  // the hardware
	AccelTCG  = "tcg"  // software emulation
)

// AccelVariable is the environment variable that overrides [AccelAuto].
const AccelVariable = "BYRE_ACCEL"

const (
	kvmAPIVersion = 12
	// A loop of 20,000 instructions takes well under 1 ms on hardware and
	// 45 ms where a host without virtualisation emulates it.
	probeLimit = 10 * time.Millisecond
)

// Facts are what was seen of a host's ability to run KVM.
type Facts struct {
	Arch       string        // of Go: amd64, arm64
	Flag       bool          // the processor reports vmx or svm
	OpenErr    error         // why /dev/kvm could not be opened
	APIVersion int           // of /dev/kvm
	Probed     bool          // a guest was run on it
	ProbeErr   error         // why that failed
	ProbeTook  time.Duration // how long it ran
}

// Decide chooses between KVM and TCG, and says why. It fails only if wanted
// is something that the host does not have.
func Decide(wanted string, f Facts) (accel, reason string, err error) {
	switch wanted {
	case AccelTCG:
		return AccelTCG, "asked for", nil
	case AccelKVM:
		if f.OpenErr != nil {
			return "", "", fmt.Errorf("acceleration by KVM: %w", f.OpenErr)
		}
		return AccelKVM, "asked for", nil
	case AccelAuto, "":
	default:
		return "", "", fmt.Errorf("acceleration %q: %s, %s or %s are possible", wanted, AccelAuto, AccelKVM, AccelTCG)
	}
	if why := f.unfit(); why != "" {
		return AccelTCG, why, nil
	}
	return AccelKVM, "/dev/kvm works", nil
}

// unfit says why KVM cannot run a stock kernel here, or "". A /dev/kvm that
// opens is no proof: there are hosts whose KVM runs kernels made for it only.
func (f Facts) unfit() string {
	switch {
	case f.Arch == "amd64" && !f.Flag:
		return "the processor does not report vmx or svm"
	case f.OpenErr != nil:
		return f.OpenErr.Error()
	case f.APIVersion != kvmAPIVersion:
		return fmt.Sprintf("/dev/kvm has API version %d, not %d", f.APIVersion, kvmAPIVersion)
	case f.ProbeErr != nil:
		return fmt.Sprintf("/dev/kvm does not run a guest: %v", f.ProbeErr)
	case f.Probed && f.ProbeTook > probeLimit:
		return fmt.Sprintf("/dev/kvm emulates: a short loop took %v", f.ProbeTook.Round(time.Millisecond))
	}
	return ""
}
