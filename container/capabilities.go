package container

import (
	"fmt"
	"slices"
	"strings"
)

// defaultCapabilities are the ones that docker gives.
var defaultCapabilities = []string{
	"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
	"CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
}

// allCapabilities are those of Linux 6.1 (capabilities(7)).
var allCapabilities = slices.Concat(defaultCapabilities, []string{
	"CAP_AUDIT_CONTROL", "CAP_AUDIT_READ", "CAP_BLOCK_SUSPEND", "CAP_BPF", "CAP_CHECKPOINT_RESTORE", "CAP_DAC_READ_SEARCH",
	"CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_LEASE", "CAP_LINUX_IMMUTABLE", "CAP_MAC_ADMIN", "CAP_MAC_OVERRIDE", "CAP_NET_ADMIN",
	"CAP_NET_BROADCAST", "CAP_PERFMON", "CAP_SYSLOG", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_MODULE", "CAP_SYS_NICE",
	"CAP_SYS_PACCT", "CAP_SYS_PTRACE", "CAP_SYS_RAWIO", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_WAKE_ALARM",
})

// capabilities returns the default set less drop plus add, sorted. ALL stands
// for every capability; a name in both lists is added.
func capabilities(add, drop []string) ([]string, error) {
	add, err := capabilityNames(add)
	if err != nil {
		return nil, err
	}
	drop, err = capabilityNames(drop)
	if err != nil {
		return nil, err
	}
	set := slices.Clone(defaultCapabilities)
	set = slices.DeleteFunc(set, func(c string) bool { return slices.Contains(drop, c) })
	if len(add) == len(allCapabilities) { // ALL less what is dropped by name
		set = slices.DeleteFunc(slices.Clone(add), func(c string) bool { return slices.Contains(drop, c) })
	} else {
		set = append(set, add...)
	}
	slices.Sort(set)
	return slices.Compact(set), nil
}

func capabilityNames(names []string) ([]string, error) {
	var out []string
	for _, n := range names {
		c := strings.ToUpper(n)
		if c == "ALL" {
			return slices.Clone(allCapabilities), nil
		}
		if !strings.HasPrefix(c, "CAP_") {
			c = "CAP_" + c
		}
		if !slices.Contains(allCapabilities, c) {
			return nil, fmt.Errorf("capability %q is not known", n)
		}
		out = append(out, c)
	}
	return out, nil
}
