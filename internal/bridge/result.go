package bridge

import (
	"encoding/json"
	"errors"
	"fmt"
)

// A Result is an HRESULT, the status of an answer. On the wire it is a signed
// decimal. The failures below are errors: a handler wraps the one that the
// host is to see, and the host finds it again with [errors.Is].
type Result uint32

// The results that have a meaning in the protocol.
const (
	OK                    Result = 0
	ErrNotImplemented     Result = 0x80004001 // no such procedure
	ErrFail               Result = 0x80004005 // anything else
	ErrUnexpected         Result = 0x8000ffff // a defect of the agent
	ErrFileNotFound       Result = 0x80070002 // the program of a process is not there
	ErrAccessDenied       Result = 0x80070005 // it cannot be executed
	ErrTooLarge           Result = 0x8007007a // the answer does not fit a message
	ErrElementNotFound    Result = 0x80070490 // no such process, namespace, ...
	ErrInvalidState       Result = 0xc0370105
	ErrUnexpectedExit     Result = 0xc0370106
	ErrTimeout            Result = 0xc0370109
	ErrUnsupportedVersion Result = 0xc037010c
	ErrInvalidJSON        Result = 0xc037010d
	ErrNoContainer        Result = 0xc037010e
	ErrContainerExists    Result = 0xc037010f
	ErrContainerStopped   Result = 0xc0370110
)

var resultTexts = map[Result]string{
	OK:                    "success",
	ErrNotImplemented:     "not implemented",
	ErrFail:               "unspecified failure",
	ErrUnexpected:         "unexpected failure",
	ErrFileNotFound:       "file not found",
	ErrAccessDenied:       "access denied",
	ErrTooLarge:           "message too large",
	ErrElementNotFound:    "element not found",
	ErrInvalidState:       "not allowed in this state",
	ErrUnexpectedExit:     "unexpected exit",
	ErrTimeout:            "operation timed out",
	ErrUnsupportedVersion: "unsupported protocol version",
	ErrInvalidJSON:        "invalid JSON document",
	ErrNoContainer:        "no such container",
	ErrContainerExists:    "container already exists",
	ErrContainerStopped:   "container has already stopped",
}

func (r Result) Error() string {
	if s := resultTexts[r]; s != "" {
		return s
	}
	return fmt.Sprintf("HRESULT 0x%08x", uint32(r))
}

// HRESULT returns the number.
func (r Result) HRESULT() uint32 { return uint32(r) }

// MarshalJSON writes the signed form.
func (r Result) MarshalJSON() ([]byte, error) { return json.Marshal(int32(r)) }

// UnmarshalJSON reads the signed form, and the unsigned one.
func (r *Result) UnmarshalJSON(b []byte) error {
	var n int64
	if err := json.Unmarshal(b, &n); err != nil {
		return err
	}
	if n < -1<<31 || n > 1<<32-1 {
		return fmt.Errorf("%d is no HRESULT", n)
	}
	*r = Result(uint32(n))
	return nil
}

// ErrClosed means that the bridge is gone; what was asked may have been done
// or not.
var ErrClosed = errors.New("bridge closed")

// ErrReleased means that a container or process was closed while it was
// waited for.
var ErrReleased = errors.New("closed before its end was seen")

// ErrProtocol means that the peer broke the protocol.
var ErrProtocol = errors.New("protocol violation")

// ErrNoAnswer means that the guest did not answer in time. The bridge goes
// on; what was asked may still be done.
var ErrNoAnswer = errors.New("message timeout")

// An Error is a failure that the guest reported. It unwraps to its Result.
type Error struct {
	Op        Type
	Container string // "" for the virtual machine
	Result    Result
	Message   string        // the guest's words; they are untrusted text
	Records   []ErrorRecord // where in the guest it failed
}

func (e *Error) Error() string {
	m := e.Message
	if m == "" {
		m = e.Result.Error()
	}
	return "guest RPC failure: " + m
}

// Unwrap returns the Result.
func (e *Error) Unwrap() error { return e.Result }

// IsNotFound reports whether err says that a process or container is not
// there.
func IsNotFound(err error) bool {
	return errors.Is(err, ErrElementNotFound) || errors.Is(err, ErrNoContainer)
}

// IsAlreadyExists reports whether err says that a container exists.
func IsAlreadyExists(err error) bool { return errors.Is(err, ErrContainerExists) }

// IsNotSupported reports whether err says that the guest has no such
// procedure.
func IsNotSupported(err error) bool { return errors.Is(err, ErrNotImplemented) }

// resultOf returns what a handler's error is on the wire.
func resultOf(err error) Result {
	var e *Error
	if errors.As(err, &e) && e.Result != OK {
		return e.Result
	}
	var r Result
	if errors.As(err, &r) && r != OK {
		return r
	}
	return ErrFail
}
