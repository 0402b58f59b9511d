package main

import (
	"strconv"
	"strings"
	"syscall"
)

// linuxSignals are the names that signals have in the guest, in the order of
// their numbers, from 1 on (signal(7)).
var linuxSignals = strings.Fields("HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT " +
	"CHLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS")

// signalAliases are other names of some.
var signalAliases = map[string]string{"IOT": "ABRT", "CLD": "CHLD", "POLL": "IO"}

// The real-time signals, as the C library counts them, which keeps two.
const (
	firstRealTime = 34
	lastRealTime  = 64
)

// signalNumber returns the number of a Linux signal given by number or by
// name, with or without SIG, and 0 for one that is not known. Real-time signals
// are RTMIN, RTMIN+n, RTMAX and RTMAX-n.
func signalNumber(s string) syscall.Signal {
	if n, err := strconv.Atoi(s); err == nil && n > 0 && n <= lastRealTime {
		return syscall.Signal(n)
	}
	s = strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if alias, ok := signalAliases[s]; ok {
		s = alias
	}
	for i, name := range linuxSignals {
		if s == name {
			return syscall.Signal(i + 1)
		}
	}
	return realTime(s)
}

func realTime(s string) syscall.Signal {
	base, sign := firstRealTime, "+"
	rest, ok := strings.CutPrefix(s, "RTMIN")
	if !ok {
		if rest, ok = strings.CutPrefix(s, "RTMAX"); !ok {
			return 0
		}
		base, sign = lastRealTime, "-"
	}
	if rest == "" {
		return syscall.Signal(base)
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(rest, sign), 10, 8)
	if err != nil || !strings.HasPrefix(rest, sign) || n > lastRealTime-firstRealTime {
		return 0
	}
	if sign == "-" {
		return syscall.Signal(base - int(n))
	}
	return syscall.Signal(base + int(n))
}
