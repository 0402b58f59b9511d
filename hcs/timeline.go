package hcs

import "time"

// A Stage is one step on the way of a system to a running virtual machine.
type Stage struct {
	Name string        // of the engine's choice, such as "vmm-spawn"
	At   time.Time     // when it began
	Took time.Duration // how long it lasted
}

// A Timeliner is a [System] whose engine keeps account of the stages of its
// creation and start.
type Timeliner interface {
	// Timeline returns the stages so far, in the order in which they began.
	Timeline() []Stage
}
