//go:build !windows

package main

import "github.com/byrevm/byre/internal/engine"

const (
	// bootFilesNote is said of boot files that byre has made.
	bootFilesNote = ""
	// bootFilesRemedy is said with a folder if there are none.
	bootFilesRemedy = "make some: byre boot build --kernel-package linux-image-….deb %q, or set BYRE_BOOT_FILES to a folder that has them"
)

// hostChecks looks at what the engine does not look at, which is nothing here.
func hostChecks() []engine.Check { return nil }
