package computecore

import (
	"sync"
	"syscall"

	"golang.org/x/sys/windows"
)

// An event is HCS_EVENT.
type event struct {
	kind uint32
	data *uint16
	_    uintptr // the operation, of an event that is one's end
}

// subscribers are the receivers of events. The DLL is given their numbers, so
// that a late event of a closed handle finds nobody, and no pointer of Go's.
var subscribers struct {
	sync.Mutex
	last    uintptr
	byKey   map[uintptr]func(Event)
	numbers map[Handle]uintptr
}

// callback is called on threads of the DLL. There is one for all: Go never
// frees callbacks.
var callback = sync.OnceValue(func() uintptr {
	return syscall.NewCallback(func(e *event, key uintptr) uintptr {
		subscribers.Lock()
		f := subscribers.byKey[key]
		subscribers.Unlock()
		if f == nil || e == nil {
			return 0
		}
		ev := Event{Type: e.kind}
		if e.data != nil {
			ev.Document = windows.UTF16PtrToString(e.data) // the DLL keeps it
		}
		f(ev)
		return 0
	})
})

// listen has the events of h delivered to f until forget.
func listen(set *windows.LazyProc, h Handle, f func(Event)) Result {
	s := &subscribers
	s.Lock()
	if s.byKey == nil {
		s.byKey, s.numbers = make(map[uintptr]func(Event)), make(map[Handle]uintptr)
	}
	s.last++
	key := s.last
	s.byKey[key], s.numbers[h] = f, key
	s.Unlock()
	r := Result{Code: call(set, uintptr(h), 0, key, callback())}
	if r.Failed() {
		forget(h)
	}
	return r
}

// forget ends listen. It comes before the handle is closed: its number may be
// given out again at once.
func forget(h Handle) {
	subscribers.Lock()
	defer subscribers.Unlock()
	delete(subscribers.byKey, subscribers.numbers[h])
	delete(subscribers.numbers, h)
}
