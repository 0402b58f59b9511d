package main

import (
	"syscall"
	"testing"
)

func TestSignalNumber(t *testing.T) {
	for s, want := range map[string]syscall.Signal{
		"TERM": 15, "SIGTERM": 15, "sigterm": 15, "9": 9, "HUP": 1, "SYS": 31, "SIGIOT": 6, "CLD": 17, "POLL": 29,
		"RTMIN": 34, "SIGRTMIN+3": 37, "RTMIN+30": 64, "rtmax": 64, "SIGRTMAX-2": 62, "RTMAX-30": 34, "64": 64,
		"": 0, "0": 0, "-1": 0, "65": 0, "SIG": 0, "FOO": 0, "SIGé": 0, "RTMIN-1": 0, "RTMIN+31": 0, "RTMAX+1": 0, "RTMIN+": 0,
		"RTMIN++1": 0, "RTMIN+-1": 0, "RTMIN+999999999999999999999": 0, "SIGSIGTERM": 0,
	} {
		if got := signalNumber(s); got != want {
			t.Errorf("%q: got %d, want %d", s, got, want)
		}
	}
}
