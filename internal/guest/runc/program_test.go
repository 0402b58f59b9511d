//go:build linux

package runc

import (
	"errors"
	"testing"
)

func TestProgramError(t *testing.T) {
	const create = "runc create failed: unable to start container process: error during container init: "
	for _, c := range []struct {
		message string
		want    error
	}{
		{create + `exec: "nosuch": executable file not found in $PATH`, ErrNoProgram},
		{create + `exec: "/nosuch": stat /nosuch: no such file or directory`, ErrNoProgram},
		{create + `exec: "/etc/hostname": permission denied`, ErrNotExecutable},
		{create + `exec: "/tmp": is a directory`, ErrNotExecutable},
		{`exec failed: unable to start container process: exec: "a\"b": executable file not found in $PATH`, ErrNoProgram},
		{create + `exec: "no such file or directory": input/output error`, nil},
		{create + `error mounting "x" to rootfs: no such file or directory`, nil},
		{"container does not exist", nil},
		{"", nil},
	} {
		err := &Error{Op: "create", ID: "x", Message: c.message}
		for _, class := range []error{ErrNoProgram, ErrNotExecutable} {
			if got, want := errors.Is(err, class), class == c.want; got != want {
				t.Errorf("%q is %v: got %v, want %v", c.message, class, got, want)
			}
		}
	}
}
