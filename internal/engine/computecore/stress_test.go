package computecore_test

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/test/wine/standin"
)

// Many systems at once, operations that take their time, and events, while Go
// collects garbage without a break: nothing that the service was given is
// moved or freed under its hands.
func TestStress(t *testing.T) {
	const systems, changes = 12, 5
	l := newLab(t, standin.Script{Delay: time.Millisecond}, nil)
	stop := make(chan struct{})
	var gc sync.WaitGroup
	gc.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
			}
		}
	})
	defer gc.Wait()
	defer close(stop)
	var wg sync.WaitGroup
	for i := range systems {
		wg.Go(func() {
			id := fmt.Sprintf("vm-%d", i)
			s, err := l.Create(t.Context(), id, l.document(internal))
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.Start(t.Context()); err != nil {
				t.Error(err)
			}
			for j := range changes {
				if err := s.Modify(t.Context(), disk(hcsschema.Add, fmt.Sprint(j))); err != nil {
					t.Errorf("%s: %v", id, err)
				}
				if err := s.Modify(t.Context(), disk(hcsschema.Remove, "")); err != nil {
					t.Errorf("%s: %v", id, err)
				}
				if p, err := s.Properties(t.Context()); err != nil || p.Id != id {
					t.Errorf("%s: properties %+v, %v", id, p, err)
				}
			}
			if i%2 == 0 {
				l.mem.System(id).Exit(&hcs.Exit{Kind: hcs.ExitGuest})
				<-s.Done()
				var x *hcs.Exit
				if !errors.As(s.Err(), &x) || x.Kind != hcs.ExitGuest {
					t.Errorf("%s: %v", id, s.Err())
				}
			}
			if err := s.Close(); err != nil {
				t.Errorf("%s: close: %v", id, err)
			}
		})
	}
	wg.Wait()
}

// A call that takes longer than the engine allows is over for its caller, and
// is collected when it ends.
func TestTimeout(t *testing.T) {
	l := newLab(t, standin.Script{}, nil)
	l.Engine = l.bench.EngineWith(time.Nanosecond)
	_, err := l.Create(t.Context(), "vm", l.document(""))
	if err == nil || errors.Is(err, hcs.ErrStopped) {
		t.Errorf("got error %v, want that it took too long", err)
	}
	for l.bench.Count("HcsTerminateComputeSystem") == 0 { // it may not have begun yet
		runtime.Gosched()
		if t.Context().Err() != nil {
			return
		}
	}
}
