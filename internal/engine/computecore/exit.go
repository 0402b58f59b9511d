package computecore

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/byrevm/byre/hcs"
)

// How a system ended, in the words of the service (NotificationType). The
// builds before schema 2.2 do not say.
const (
	exitGraceful   = "GracefulExit"
	exitForced     = "ForcedExit"
	exitUnexpected = "UnexpectedExit"
)

// An exitStatus comes with [EventSystemExited].
type exitStatus struct {
	Status   int32 // HRESULT
	ExitType string
}

// A crashReport comes with the crash events (CrashReport). The parameters of
// Windows are the bug check code and its four values; the log is that of a
// Linux kernel. Both are the guest's words.
type crashReport struct {
	CrashParameters []uint64
	CrashLog        string
}

// exitOf says why a system ended, from the document of the event. asked is
// whether this engine terminated it, crash what was reported before.
func exitOf(document string, asked bool, crash *crashReport) *hcs.Exit {
	var st exitStatus
	if err := json.Unmarshal([]byte(document), &st); err != nil {
		return &hcs.Exit{Kind: hcs.ExitOther, Detail: "the service did not say how it ended"}
	}
	code := uint32(st.Status)
	switch n := normal(code); {
	case crash != nil && (n != 0 || st.ExitType == exitUnexpected):
		return crash.exit(code)
	case n == codeGuestCritical:
		return &hcs.Exit{Kind: hcs.ExitPanic, Code: code}
	case n == codeUnexpectedExit, n == 0 && st.ExitType == exitUnexpected:
		return &hcs.Exit{Kind: hcs.ExitVMMCrash, Code: code}
	case n != 0 && n != codeTerminated:
		return &hcs.Exit{Kind: hcs.ExitOther, Code: code}
	case asked:
		return &hcs.Exit{Kind: hcs.ExitTerminated}
	case n == codeTerminated, st.ExitType == exitForced:
		return &hcs.Exit{Kind: hcs.ExitVMMKilled, Code: code, Detail: "another client of the service terminated it"}
	}
	return &hcs.Exit{Kind: hcs.ExitGuest}
}

// logLines is how much of a crash log an exit keeps.
const logLines = 50

// exit is the end of a system whose guest crashed.
func (c *crashReport) exit(code uint32) *hcs.Exit {
	x := &hcs.Exit{Kind: hcs.ExitPanic, Code: code}
	if log := strings.TrimSpace(c.CrashLog); log != "" {
		x.Log = strings.Split(strings.ReplaceAll(log, "\r", ""), "\n")
		x.Log = x.Log[max(0, len(x.Log)-logLines):]
	}
	if len(c.CrashParameters) > 0 {
		x.Detail = fmt.Sprintf("crash parameters %#x", c.CrashParameters)
	}
	return x
}
