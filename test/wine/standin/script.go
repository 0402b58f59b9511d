package standin

import "time"

// A Script says how the service behaves.
type Script struct {
	// Sync has operations end before the call that began them returns, and
	// events arrive on a thread of the caller's. Otherwise both come on
	// threads of the DLL. Off Windows it makes no difference.
	Sync bool

	// Delay is how long an operation takes at least.
	Delay time.Duration

	// Fail fails calls.
	Fail []Failure
}

// A Failure fails the n-th call of a function.
type Failure struct {
	Call string // the name of the function of computecore.dll, or "*" for any
	Nth  int    // from 1; 0 is every call
	Code uint32 // HRESULT
	// Late fails the operation, after it was begun; otherwise the function
	// itself fails. What the call was to do is not done.
	Late bool
}
