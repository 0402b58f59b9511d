//go:build !windows

package main

import "github.com/byrevm/byre/internal/engine"

// bootFilesNote is said of boot files that byre has made.
const bootFilesNote = ""

// hostChecks looks at what the engine does not look at, which is nothing here.
func hostChecks() []engine.Check { return nil }
