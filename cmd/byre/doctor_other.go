//go:build !windows

package main

import (
	"github.com/byrevm/byre/internal/bootfiles"
	"github.com/byrevm/byre/internal/engine"
)

// bootFilesRemedy is said with a folder if there are none that boot.
const bootFilesRemedy = "make some: byre boot build --kernel-package linux-image-….deb %q, or set BYRE_BOOT_FILES to a folder that has them"

// bootable tells whether boot files that byre has made boot here.
func bootable(*bootfiles.Manifest) error { return nil }

// hostChecks looks at what the engine does not look at, which is nothing here.
func hostChecks() []engine.Check { return nil }
