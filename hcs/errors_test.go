package hcs

import (
	"errors"
	"testing"
)

func TestErrorText(t *testing.T) {
	cause := errors.New("boom")
	for _, c := range []struct {
		err  *Error
		want string
	}{
		{&Error{Op: "start", System: "vm", Err: cause}, "start vm: boom"},
		{&Error{Op: "modify", System: "vm", Path: "a/b", Code: 0x80070002, Err: cause}, "modify vm a/b: boom (0x80070002)"},
		{&Error{Op: "start", System: "vm", Err: cause, Records: []ErrorRecord{{Message: "one"}, {Source: "silent"}, {Message: "two"}}}, "start vm: boom: one: two"},
	} {
		if got := c.err.Error(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
		if !errors.Is(c.err, cause) {
			t.Errorf("%v does not wrap its cause", c.err)
		}
	}
}

func TestExitUnexpected(t *testing.T) {
	for _, c := range []struct {
		exit Exit
		want bool
	}{
		{Exit{Kind: ExitGuest}, false},
		{Exit{Kind: ExitTerminated, Code: CodeUnexpectedExit}, false},
		{Exit{Kind: ExitPanic}, true},
		{Exit{Kind: ExitVMMCrash, Code: CodeUnexpectedExit}, true},
		{Exit{Kind: ExitVMMCrash, Code: 0x80370106}, true},
		{Exit{Kind: ExitOther, Code: 0x80370105}, false},
	} {
		if got := c.exit.Unexpected(); got != c.want {
			t.Errorf("%v: got %v, want %v", &c.exit, got, c.want)
		}
	}
}
