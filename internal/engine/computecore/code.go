package computecore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/byrevm/byre/hcs"
)

// HRESULTs of the service (HCS HRESULT, winerror.h) and of Windows.
const (
	codeNotInstalled     uint32 = 0x80370102
	codeInvalidState     uint32 = 0x80370105
	codeUnexpectedExit   uint32 = 0x80370106
	codeTerminated       uint32 = 0x80370107
	codeBadVersion       uint32 = 0x8037010C
	codeInvalidJSON      uint32 = 0x8037010D
	codeSystemNotFound   uint32 = 0x8037010E
	codeSystemExists     uint32 = 0x8037010F
	codeAlreadyStopped   uint32 = 0x80370110
	codeNotAvailable     uint32 = 0x80370114
	codeOperationTimeout uint32 = 0x80370118
	codeAccessDenied     uint32 = 0x8037011B
	codeGuestCritical    uint32 = 0x8037011C
	codeDisconnected     uint32 = 0x8037011E
	codeProcessStopped   uint32 = 0x8037011F

	codeNotImplemented  uint32 = 0x80004001
	codeFileNotFound    uint32 = 0x80070002
	codePathNotFound    uint32 = 0x80070003
	codeDenied          uint32 = 0x80070005
	codeNotSupported    uint32 = 0x80070032
	codeFileExists      uint32 = 0x80070050
	codeModNotFound     uint32 = 0x8007007E
	codeProcNotFound    uint32 = 0x8007007F
	codeAlreadyExists   uint32 = 0x800700B7
	codeElementNotFound uint32 = 0x80070490
)

// statusBit is what a status of the older interface has beyond the HRESULT
// that means the same; guests still answer with them.
const statusBit uint32 = 0x40000000

// normal returns a code of the service as the HRESULT.
func normal(code uint32) uint32 {
	if code&0xFFFF0000 == 0xC0370000 {
		return code &^ statusBit
	}
	return code
}

// A meaning is what a code says to callers of package hcs.
type meaning struct {
	text     string
	sentinel error
}

var errTimeout = errors.New("the Host Compute Service did not answer in time")

var meanings = map[uint32]meaning{
	codeNotInstalled:     {"a feature that is required is not installed", hcs.ErrNotSupported},
	codeInvalidState:     {"", hcs.ErrInvalidState},
	codeUnexpectedExit:   {"the system exited unexpectedly", nil},
	codeTerminated:       {"the system was terminated", nil},
	codeBadVersion:       {"the guest speaks no version of the protocol that the host does", hcs.ErrNotSupported},
	codeInvalidJSON:      {"the service does not accept the document", hcs.ErrNotSupported},
	codeSystemNotFound:   {"no such system", hcs.ErrNotFound},
	codeSystemExists:     {"system", hcs.ErrAlreadyExists},
	codeAlreadyStopped:   {"", hcs.ErrStopped},
	codeNotAvailable:     {"the Host Compute Service is not available", hcs.ErrNotSupported},
	codeOperationTimeout: {"", errTimeout},
	codeAccessDenied:     {"only members of Administrators or Hyper-V Administrators may", fs.ErrPermission},
	codeGuestCritical:    {"the guest reported a critical error", nil},
	codeDisconnected:     {"the Host Compute Service has disconnected", nil},
	codeProcessStopped:   {"the process has exited", hcs.ErrNotFound},
	codeNotImplemented:   {"", hcs.ErrNotSupported},
	codeFileNotFound:     {"", fs.ErrNotExist},
	codePathNotFound:     {"", fs.ErrNotExist},
	codeDenied:           {"", fs.ErrPermission},
	codeNotSupported:     {"", hcs.ErrNotSupported},
	codeFileExists:       {"", hcs.ErrAlreadyExists},
	codeModNotFound:      {"this host has no computecore.dll", hcs.ErrNotSupported},
	codeProcNotFound:     {"computecore.dll lacks the function", hcs.ErrNotSupported},
	codeAlreadyExists:    {"", hcs.ErrAlreadyExists},
	codeElementNotFound:  {"", hcs.ErrNotFound},
}

// A resultError is the document that may come with a failure (ResultError).
type resultError struct {
	Error        int32
	ErrorMessage string
	ErrorEvents  []struct {
		Message, Source, Provider, StackTrace string
		EventID                               uint16 `json:"EventId"`
	}
}

// failure returns the error that a result is, or nil.
func (r Result) failure(op, system, path string) error {
	if !r.Failed() {
		return nil
	}
	e := &hcs.Error{Op: op, System: system, Path: path, Code: r.Code}
	var d resultError
	if json.Unmarshal([]byte(r.Document), &d) == nil { // that it is no such document is no matter
		for _, ev := range d.ErrorEvents {
			e.Records = append(e.Records, hcs.ErrorRecord{
				Message: ev.Message, Source: ev.Source, Provider: ev.Provider, EventID: ev.EventID, StackTrace: ev.StackTrace,
			})
		}
	}
	m := meanings[normal(r.Code)]
	switch {
	case d.ErrorMessage != "" && m.sentinel != nil:
		e.Err = fmt.Errorf("%w: %s", m.sentinel, d.ErrorMessage)
	case d.ErrorMessage != "":
		e.Err = errors.New(d.ErrorMessage)
	case m.text != "" && m.sentinel != nil:
		e.Err = fmt.Errorf("%w: %s", m.sentinel, m.text)
	case m.text != "":
		e.Err = errors.New(m.text)
	case m.sentinel != nil:
		e.Err = m.sentinel
	default:
		e.Err = errors.New("the Host Compute Service failed")
	}
	return e
}

// is reports whether the result is one of the codes.
func (r Result) is(codes ...uint32) bool {
	for _, c := range codes {
		if normal(r.Code) == c {
			return true
		}
	}
	return false
}
