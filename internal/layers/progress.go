package layers

import (
	"sync"
	"time"
)

// An Event tells how far the work on a layer is.
type Event struct {
	Stage string // "pull" or "convert"
	Layer string // diff ID
	Done  int64  // bytes of the packed layer
	Total int64
}

// progress calls back, one event at a time and not too often.
type progress struct {
	fn func(Event)
	mu sync.Mutex
}

const progressEvery = 100 * time.Millisecond

// layer returns what counts the bytes of one stage of one layer.
func (p *progress) layer(stage, layer string, total int64) func(n int) {
	if p == nil || p.fn == nil {
		return nil
	}
	e := Event{Stage: stage, Layer: layer, Total: total}
	var last time.Time
	return func(n int) {
		// A second reading of a layer does not count.
		e.Done = min(e.Done+int64(n), e.Total)
		if now := time.Now(); now.Sub(last) >= progressEvery || e.Done == e.Total {
			last = now
			p.mu.Lock()
			defer p.mu.Unlock()
			p.fn(e)
		}
	}
}
