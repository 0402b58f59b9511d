package computecore

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/byrevm/byre/hcs"
)

func TestFailure(t *testing.T) {
	if err := (Result{Code: 1}).failure("op", "vm", ""); err != nil { // S_FALSE
		t.Errorf("a success is the error %v", err)
	}
	for _, c := range []struct {
		code     uint32
		document string
		want     error
		text     string
	}{
		{0x8037011B, "", fs.ErrPermission, "Hyper-V Administrators"},
		{0x80370102, "", hcs.ErrNotSupported, "not installed"},
		{0x80370105, "", hcs.ErrInvalidState, ""},
		{0xC0370105, "", hcs.ErrInvalidState, ""},
		{0x8037010D, `{"Error":-2143878899,"ErrorMessage":"unknown member Toaster"}`, hcs.ErrNotSupported, "Toaster"},
		{0x8037010E, "", hcs.ErrNotFound, ""},
		{0x8037010F, "", hcs.ErrAlreadyExists, ""},
		{0x80370110, "", hcs.ErrStopped, ""},
		{0x80370118, "", errTimeout, ""},
		{0x8007007E, "", hcs.ErrNotSupported, "computecore.dll"},
		{0x80070002, "", fs.ErrNotExist, ""},
		{0x80070490, "", hcs.ErrNotFound, ""},
		{0x80070057, `{"ErrorMessage":"no"}`, nil, "no (0x80070057)"},
		{0x80070057, "no JSON", nil, "0x80070057"},
	} {
		err := Result{Code: c.code, Document: c.document}.failure("op", "vm", "p")
		var e *hcs.Error
		if !errors.As(err, &e) || e.Code != c.code || e.Op != "op" || e.System != "vm" || e.Path != "p" {
			t.Errorf("%#x: got %#v", c.code, err)
		}
		if c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%#x: got %v, want %v with %q", c.code, err, c.want, c.text)
		}
	}
}

func TestExitOf(t *testing.T) {
	crash := &crashReport{CrashParameters: []uint64{1, 2}, CrashLog: "one\r\ntwo\r\n"}
	for _, c := range []struct {
		document string
		asked    bool
		crash    *crashReport
		want     hcs.ExitKind
		code     uint32
	}{
		{`{"Status":0}`, false, nil, hcs.ExitGuest, 0},
		{`{"Status":0}`, true, nil, hcs.ExitTerminated, 0},
		{`{"Status":0,"ExitType":"GracefulExit"}`, false, nil, hcs.ExitGuest, 0},
		{`{"Status":0,"ExitType":"ForcedExit"}`, false, nil, hcs.ExitVMMKilled, 0},
		{`{"Status":0,"ExitType":"ForcedExit"}`, true, nil, hcs.ExitTerminated, 0},
		{`{"Status":-2143878905}`, true, nil, hcs.ExitTerminated, 0},
		{`{"Status":-2143878905}`, false, nil, hcs.ExitVMMKilled, 0x80370107},
		{`{"Status":-2143878906,"ExitType":"UnexpectedExit"}`, false, nil, hcs.ExitVMMCrash, 0x80370106},
		{`{"Status":-1070137082}`, false, nil, hcs.ExitVMMCrash, 0xC0370106},
		{`{"Status":-2143878906}`, true, nil, hcs.ExitVMMCrash, 0x80370106},
		{`{"Status":-2143878884}`, false, nil, hcs.ExitPanic, 0x8037011C},
		{`{"Status":-2143878906}`, false, crash, hcs.ExitPanic, 0x80370106},
		{`{"Status":0,"ExitType":"GracefulExit"}`, false, crash, hcs.ExitGuest, 0},
		{`{"Status":-2147024891}`, false, nil, hcs.ExitOther, 0x80070005},
		{``, false, nil, hcs.ExitOther, 0},
	} {
		x := exitOf(c.document, c.asked, c.crash)
		if x.Kind != c.want || x.Code != c.code {
			t.Errorf("%s, asked %v: got %v (%#x), want %v (%#x)", c.document, c.asked, x.Kind, x.Code, c.want, c.code)
		}
		if x.Kind == hcs.ExitPanic && c.crash != nil && (len(x.Log) != 2 || x.Detail == "") {
			t.Errorf("the crash is lost: %+v", x)
		}
	}
}

// The end of the service is the end of every system, and is told apart.
func TestDisconnect(t *testing.T) {
	w := newWatch()
	w.event(Event{Type: EventServiceDisconnect})
	w.event(Event{Type: EventSystemExited, Document: `{"Status":0}`})
	<-w.done
	var x *hcs.Exit
	if err := w.wait(); !errors.As(err, &x) || x.Kind != hcs.ExitOther || x.Code != codeDisconnected {
		t.Errorf("got %v", err)
	}
}
