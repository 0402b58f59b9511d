package qemu

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
)

// A Check is something that this engine needs of the host.
type Check struct {
	Name   string
	OK     bool
	Detail string
	Remedy string
}

// Checks looks at the host, for people who ask why it does not work.
func Checks(ctx context.Context) []Check {
	return []Check{checkQEMU(ctx), checkFirmware(), checkAccel(), checkCgroups(), checkRunFolder(), checkFree()}
}

var versionText = regexp.MustCompile(`version (\d+)\.(\d+)\S*`)

func checkQEMU(ctx context.Context) Check {
	c := Check{Name: "QEMU", Remedy: install}
	path, err := New(Config{}).binary()
	if err != nil {
		c.Detail = err.Error()
		return c
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		c.Detail = fmt.Sprintf("%s --version: %v", path, err)
		return c
	}
	m := versionText.FindStringSubmatch(string(out))
	if m == nil {
		c.Detail = fmt.Sprintf("%s does not say its version", path)
		return c
	}
	major, _ := strconv.Atoi(m[1])
	minor, _ := strconv.Atoi(m[2])
	c.OK = major > oldestMajor || major == oldestMajor && minor >= oldestMinor
	c.Detail = fmt.Sprintf("%s, %s", path, m[0])
	if !c.OK {
		c.Detail += fmt.Sprintf(", older than %d.%d", oldestMajor, oldestMinor)
	}
	return c
}

// firmwareFolders are where distributions put QEMU's firmware.
var firmwareFolders = []string{"/usr/share/qemu", "/usr/local/share/qemu", "/usr/share/qemu-kvm"}

func checkFirmware() Check {
	c := Check{Name: "firmware", Remedy: install}
	for _, d := range firmwareFolders {
		p := filepath.Join(d, fastFirmware)
		if _, err := os.Stat(p); err == nil {
			c.OK, c.Detail = true, p
			if uefi, err := firmwareFor(&machine{boot: &boot{uefi: true}}); err == nil {
				c.Detail += ", " + uefi
			} else {
				c.Detail += "; none to boot by UEFI (" + installUEFI + ")"
			}
			return c
		}
	}
	c.Detail = fastFirmware + " is in none of " + strings.Join(firmwareFolders, ", ")
	return c
}

// checkAccel is about a choice that always can be made: emulation is slow, and
// works.
func checkAccel() Check {
	c := Check{Name: "KVM"}
	accel, reason, err := Decide(wantedAccel(""), Probe())
	switch {
	case err != nil:
		c.Detail, c.Remedy = err.Error(), "unset "+AccelVariable
	case accel == AccelKVM:
		c.OK, c.Detail = true, reason
	default:
		c.Detail = "not used, systems are emulated and slow: " + reason
	}
	return c
}

func checkCgroups() Check {
	c := Check{Name: "cgroups"}
	h, err := findCgroups()
	if err != nil {
		c.Detail = err.Error()
		return c
	}
	var where []string
	for _, name := range controllers {
		if dir, ok := h.v1[name]; ok {
			where = append(where, dir)
		}
	}
	if len(where) == 0 && h.unified != "" {
		where = append(where, h.unified)
	}
	for _, dir := range where {
		if !writable(dir) {
			c.Detail = dir + " is not writable: systems share the caller's cgroup, limits of processors are refused"
			return c
		}
	}
	c.OK, c.Detail = len(where) > 0, strings.Join(where, ", ")
	if !c.OK {
		c.Detail = "none mounted: limits of processors are refused"
	}
	return c
}

func checkRunFolder() Check {
	c := Check{Name: "run folder", Detail: defaultRunFolder()}
	unlock, err := (&runFolder{path: defaultRunFolder()}).open()
	if err != nil {
		c.Detail, c.Remedy = err.Error(), "give this user a run folder: $XDG_RUNTIME_DIR"
		return c
	}
	unlock()
	c.OK = true
	return c
}

func checkFree() Check {
	c := Check{Name: "memory", Remedy: "free some memory or give systems less"}
	total, available, err := hostMemory()
	if err != nil {
		c.Detail = err.Error()
		return c
	}
	c.OK = available >= defaultMemoryMB
	c.Detail = fmt.Sprintf("%d of %d MB free, a system has %d, %d processors", available, total, defaultMemoryMB, runtime.NumCPU())
	return c
}
