package hcs

import "fmt"

// An ExitKind tells the ends of a virtual machine apart.
type ExitKind int

const (
	ExitGuest      ExitKind = iota // the guest shut itself down in order
	ExitTerminated                 // Terminate or Close ended it
	ExitPanic                      // the guest's kernel panicked
	ExitOOM                        // the guest ran out of memory
	ExitAgent                      // the guest's agent crashed
	ExitVMMCrash                   // the virtual machine monitor failed
	ExitVMMKilled                  // something else killed the monitor
	ExitOther                      // an end that the engine knows by its code only
)

var exitNames = [...]string{
	ExitGuest:      "guest exited",
	ExitTerminated: "terminated",
	ExitPanic:      "guest kernel panicked",
	ExitOOM:        "guest ran out of memory",
	ExitAgent:      "guest agent crashed",
	ExitVMMCrash:   "virtual machine monitor crashed",
	ExitVMMKilled:  "virtual machine monitor was killed",
	ExitOther:      "system exited",
}

func (k ExitKind) String() string {
	if k < 0 || int(k) >= len(exitNames) {
		return fmt.Sprintf("exit kind %d", int(k))
	}
	return exitNames[k]
}

// CodeUnexpectedExit is the code with which the Host Compute Service reports
// that a system stopped by itself and not in order: as a status here, as an
// HRESULT (0x80370106) by its newer interface.
const CodeUnexpectedExit uint32 = 0xC0370106

// statusBit is what a status of the Host Compute Service has beyond the
// HRESULT that means the same.
const statusBit uint32 = 0x40000000

// An Exit says why a system stopped. It never changes once the system's Done
// channel is closed.
type Exit struct {
	Kind   ExitKind
	Code   uint32   // HRESULT, if the engine has one
	Detail string   // what is known beyond the kind, one line
	Log    []string // the last lines that the guest's console or the monitor printed
}

func (e *Exit) Error() string {
	s := e.Kind.String()
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Code != 0 {
		s = fmt.Sprintf("%s (%#08x)", s, e.Code)
	}
	return s
}

// Orderly reports whether the end was asked for, by the guest or by the host.
func (e *Exit) Orderly() bool { return e.Kind == ExitGuest || e.Kind == ExitTerminated }

// Unexpected reports whether the Host Compute Service would call this end an
// unexpected exit: all that are not orderly, unless the engine reports
// another code.
func (e *Exit) Unexpected() bool {
	return !e.Orderly() && (e.Code == 0 || e.Code|statusBit == CodeUnexpectedExit)
}
