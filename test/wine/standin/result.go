package standin

import (
	"encoding/json"
	"errors"
	"io/fs"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/internal/engine/computecore"
)

// Codes with which the service answers.
const (
	codeInvalidState   uint32 = 0x80370105
	codeUnexpectedExit uint32 = 0x80370106
	codeInvalidJSON    uint32 = 0x8037010D
	codeSystemNotFound uint32 = 0x8037010E
	codeSystemExists   uint32 = 0x8037010F
	codeAlreadyStopped uint32 = 0x80370110
	codeNotImplemented uint32 = 0x80004001
	codeFail           uint32 = 0x80004005
	codeInvalidHandle  uint32 = 0x80070006
	codeNotSupported   uint32 = 0x80070032
	codeFileNotFound   uint32 = 0x80070002
	codeAlreadyExists  uint32 = 0x800700B7
	codeNotFound       uint32 = 0x80070490
)

// An eventRecord is an element of ResultError's ErrorEvents.
type eventRecord struct {
	Message  string
	Provider string
	EventID  uint16 `json:"EventId"`
	Source   string
}

// failed is a failure with the document that goes with it.
func failed(code uint32, err error) computecore.Result {
	text := "the stand-in failed"
	if err != nil {
		text = err.Error()
	}
	b, err := json.Marshal(struct {
		Error        int32
		ErrorMessage string
		ErrorEvents  []eventRecord
	}{int32(code), text, []eventRecord{{"recorded by the stand-in", "80ce50de-d264-4581-950d-abadeee0d340", 7, "standin"}}})
	if err != nil {
		panic(err)
	}
	return computecore.Result{Code: code, Document: string(b)}
}

// resultOf is the result that stands for an error of the engine in memory.
// creating is for the creation of a system.
func resultOf(err error, creating bool) computecore.Result {
	if err == nil {
		return computecore.Result{}
	}
	var e *hcs.Error
	if errors.As(err, &e) {
		if e.Code != 0 { // asked for by a test
			return failed(e.Code, e.Err)
		}
		err = e.Err
	}
	code := codeFail
	switch {
	case errors.Is(err, hcs.ErrStopped):
		code = codeAlreadyStopped
	case errors.Is(err, hcs.ErrInvalidState):
		code = codeInvalidState
	case errors.Is(err, hcs.ErrAlreadyExists):
		if code = codeAlreadyExists; creating {
			code = codeSystemExists
		}
	case errors.Is(err, hcs.ErrNotFound):
		if code = codeNotFound; creating {
			code = codeSystemNotFound
		}
	case errors.Is(err, hcs.ErrNotSupported):
		if code = codeNotSupported; creating {
			code = codeInvalidJSON
		}
	case errors.Is(err, fs.ErrNotExist):
		code = codeFileNotFound
	}
	return failed(code, err)
}

// exitStatus is SystemExitStatus.
type exitStatus struct {
	Status   int32
	ExitType string `json:",omitempty"`
}

type event struct {
	kind     uint32
	document any
}

// eventsOf is what the service reports of an end. It cannot tell all ends
// apart that there are.
func eventsOf(err error) []event {
	var x *hcs.Exit
	if !errors.As(err, &x) {
		panic("an end without a reason")
	}
	status := func(code uint32, kind string) event {
		return event{computecore.EventSystemExited, exitStatus{int32(code), kind}}
	}
	switch x.Kind {
	case hcs.ExitGuest:
		return []event{status(0, "GracefulExit")}
	case hcs.ExitTerminated:
		return []event{status(0, "ForcedExit")}
	case hcs.ExitPanic:
		report := map[string]any{"CrashParameters": []uint64{1, 2, 3, 4, 5}, "CrashLog": "Kernel panic - not syncing: test\n"}
		return []event{
			{computecore.EventSystemCrashInitiated, map[string]any{}},
			{computecore.EventSystemCrashReport, report},
			status(codeUnexpectedExit, "UnexpectedExit"),
		}
	case hcs.ExitOther:
		return []event{status(x.Code, "UnexpectedExit")}
	}
	code := x.Code
	if code == 0 {
		code = codeUnexpectedExit
	}
	return []event{status(code, "UnexpectedExit")}
}
