//go:build linux

package runc

import (
	"regexp"
	"strings"
)

// execFailure is how a message ends when the program of a process could not be
// executed: its name, quoted, and why.
var execFailure = regexp.MustCompile(`exec: "(?:[^"\\]|\\.)*": (.*)$`)

// programError returns the class of a message: only words of the runtime's own
// count, not those that the name of a program has in it.
func programError(message string) error {
	m := execFailure.FindStringSubmatch(message)
	if m == nil {
		return nil
	}
	switch why := m[1]; {
	case strings.HasSuffix(why, "executable file not found in $PATH"), strings.HasSuffix(why, "no such file or directory"):
		return ErrNoProgram
	case strings.HasSuffix(why, "permission denied"), strings.HasSuffix(why, "is a directory"):
		return ErrNotExecutable
	}
	return nil
}
