package qemu

import (
	"slices"
	"strconv"
	"strings"
)

// The words that package uvm writes at fixed places of a Linux command line
// (spec §2.3) and that would blind a guest of QEMU:
//
//	[initrd=F | root=/dev/pmem0 ro rootwait init=/init] 8250_core.nr_uarts=0 panic=-1 quiet [user's] [pci=off] nr_cpus=N brd.rd_nr=0 pmtmr=0 -- ...
//
// Only at those places are they taken out: the same word among the user's, or
// after "--", stays.
const (
	noSerial = "8250_core.nr_uarts=0"
	noPCI    = "pci=off"
	noPMTmr  = "pmtmr=0"
)

// editCmdline makes a command line fit this machine: see the table in
// docs/hcs.md. extra are words that the accelerator needs.
func editCmdline(line string, extra ...string) string {
	kernel, init, hasInit := cutInit(line)
	words := fields(kernel)

	head := 0 // words that belong to the root file system
	for head < len(words) && isRootWord(words[head]) {
		head++
	}
	if head < len(words) && words[head] == noSerial {
		words = append(words[:head:head], words[head+1:]...)
	}
	if n := len(words); n > 0 && words[n-1] == noPMTmr {
		words = words[:n-1]
		// ... [pci=off] nr_cpus=N brd.rd_nr=0
		if n := len(words); n >= 3 && words[n-3] == noPCI &&
			strings.HasPrefix(words[n-2], "nr_cpus=") && strings.HasPrefix(words[n-1], "brd.rd_nr=") {
			words = append(words[:n-3:n-3], words[n-2:]...)
		}
	}
	if !hasPrefix(words, "console=ttyS0") {
		// First, so that the last console of the line, where /dev/console
		// leads, is still the user's.
		extra = append([]string{"console=ttyS0"}, extra...)
	}
	if !slices.ContainsFunc(words, isPanicWord) {
		// With a console uvm leaves it out, for people who read the screen.
		// What a machine prints is kept here, and one that has panicked must
		// end.
		extra = append([]string{"panic=-1"}, extra...)
	}
	words = append(words[:head:head], append(extra, words[head:]...)...)
	out := strings.Join(words, " ")
	if hasInit {
		out += " " + init
	}
	return out
}

// emulationWords are the words of the kernel's command line for a machine that
// is emulated. A busy host delays its timers: by more than the kernel's check
// of one allows, which then panics, and so that the rate of the time-stamp
// counter, khz unless it is 0, would be measured wrong. The self-tests of
// cryptography are slow there, and so is it to clear all memory that the kernel
// takes, which those of distributions do as a precaution.
func emulationWords(khz int) []string {
	words := []string{"no_timer_check", "cryptomgr.notests", "init_on_alloc=0"}
	if khz > 0 {
		words = append(words, "tsc_early_khz="+strconv.Itoa(khz), "tsc=reliable")
	}
	return words
}

// memoryWords are the words for a machine of that memory. The addresses for
// persistent memory make a kernel believe that there are devices which cannot
// reach all memory, and set 64 MB of it aside to copy through.
func memoryWords(o memoryOptions) []string {
	if o.allLow() {
		return []string{"swiotlb=noforce"}
	}
	return nil
}

// fields splits at the spaces outside double quotes, as the kernel does.
func fields(s string) []string {
	quoted := false
	return strings.FieldsFunc(s, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return r == ' ' && !quoted
	})
}

// cutInit splits a command line before the first "--" that stands alone. What
// follows is for init and is never changed.
func cutInit(line string) (kernel, init string, ok bool) {
	for at := 0; ; {
		i := strings.Index(line[at:], "--")
		if i < 0 {
			return line, "", false
		}
		i += at
		before := i == 0 || line[i-1] == ' '
		after := i+2 == len(line) || line[i+2] == ' '
		if before && after && strings.Count(line[:i], `"`)%2 == 0 {
			return line[:i], line[i:], true
		}
		at = i + 2
	}
}

func isRootWord(w string) bool {
	switch w {
	case "ro", "rootwait":
		return true
	}
	return strings.HasPrefix(w, "initrd=") || strings.HasPrefix(w, "root=") || strings.HasPrefix(w, "init=")
}

func isPanicWord(w string) bool { return strings.HasPrefix(w, "panic=") }

func hasPrefix(words []string, prefix string) bool {
	for _, w := range words {
		if w == prefix || strings.HasPrefix(w, prefix+",") {
			return true
		}
	}
	return false
}
