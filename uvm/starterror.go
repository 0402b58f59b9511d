package uvm

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"unicode"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/internal/bridge"
)

// A StartError says why a VM did not start, with what is known of it. It
// wraps the cause and the end of the VM.
type StartError struct {
	ID       string
	Stage    string      // the stage that failed, such as StageAgent
	Err      error       // why
	Exit     *hcs.Exit   // how the VM ended, nil if it never ran; Exit.Log has the last console lines
	Timeline []hcs.Stage // the stages that were passed
	Messages []string    // the last messages of the bridge, oldest first
}

var stageFailures = map[string]string{
	StageVMM:    "starting the virtual machine",
	StageKernel: "waiting for the guest to boot",
	StageInit:   "waiting for the guest's output",
	StageAgent:  "waiting for the guest's agent",
	StageBridge: "negotiating with the guest's agent",
}

const (
	// consoleLines is how many lines of the console an error message shows.
	consoleLines = 8
	// panicMark is in the line with which a kernel begins to tell of its panic.
	// What it tells then are registers.
	panicMark = "Kernel panic - not syncing"
)

func (e *StartError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "starting utility VM %s: %s: %v", e.ID, stageFailures[e.Stage], e.Err)
	if e.Exit == nil {
		return b.String()
	}
	if e.ended() && !errors.Is(e.Err, e.Exit) {
		fmt.Fprintf(&b, ": %v", e.Exit)
	}
	lines := e.Exit.Log
	if i := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, panicMark) }); i >= 0 {
		lines = lines[:i+1]
	}
	if n := len(lines); n > consoleLines {
		lines = lines[n-consoleLines:]
	}
	for _, l := range lines {
		b.WriteString("\n\t" + printable(l))
	}
	return b.String()
}

// printable returns what the guest printed without what a terminal would act
// on.
func printable(line string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, strings.ReplaceAll(strings.TrimRight(line, "\r\n"), "\t", " "))
}

// ended reports whether the VM ended by itself.
func (e *StartError) ended() bool { return e.Exit != nil && e.Exit.Kind != hcs.ExitTerminated }

// Unwrap returns the cause, and how the VM ended if it ended by itself.
func (e *StartError) Unwrap() []error {
	if e.ended() {
		return []error{e.Err, e.Exit}
	}
	return []error{e.Err}
}

// A record keeps the last messages of a bridge. The zero value is ready to
// use.
type record struct {
	mu      sync.Mutex
	stopped bool
	last    []string
}

const recordedMessages = 8

func (r *record) observe(m bridge.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return
	}
	way := "received"
	if m.Sent {
		way = "sent"
	}
	if len(r.last) == recordedMessages {
		r.last = slices.Delete(r.last, 0, 1)
	}
	r.last = append(r.last, fmt.Sprintf("%s %v %d, %d bytes", way, m.Type, m.ID, len(m.Body)))
}

// stop makes the record keep what it has.
func (r *record) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
}

func (r *record) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.last)
}
