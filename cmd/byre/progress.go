package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/docker/go-units"
	"golang.org/x/term"
)

// quiet is how long a step may take before anything is said about it.
const quiet = time.Second

// A progress shows on stderr what is going on once it takes over a second. On
// a terminal one line is rewritten; elsewhere each step gets a line when it
// has become slow and one when it is done. A nil progress shows nothing.
type progress struct {
	w   io.Writer
	tty bool

	mu      sync.Mutex
	steps   []*step // under way, the oldest first
	shown   bool    // a line stands on the terminal
	stopped chan struct{}
	ended   sync.WaitGroup
}

// A step is one thing that is going on.
type step struct {
	name        string
	began       time.Time
	done, total int64 // bytes
	said        bool
}

// newProgress starts a display on f. Stop it before anything else is written
// there.
func newProgress(f *os.File) *progress {
	p := &progress{w: f, tty: term.IsTerminal(int(f.Fd())), stopped: make(chan struct{})}
	p.ended.Go(p.run)
	return p
}

// update says how far a step is. A step begins with its first update and ends
// with finish.
func (p *progress) update(name string, done, total int64) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.find(name)
	if s == nil {
		s = &step{name: name, began: time.Now()}
		p.steps = append(p.steps, s)
	}
	s.done, s.total = done, total
}

// finish ends a step that is done. One that has ended already is left alone.
func (p *progress) finish(name string) { p.end(name, "done in") }

// fail ends a step that came to nothing; the error is the caller's to tell.
func (p *progress) fail(name string) { p.end(name, "given up after") }

func (p *progress) end(name, how string) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, s := range p.steps {
		if s.name != name {
			continue
		}
		p.steps = append(p.steps[:i], p.steps[i+1:]...)
		if s.said || time.Since(s.began) >= quiet {
			p.clear()
			fmt.Fprintf(p.w, "%s: %s %s\n", s.name, how, time.Since(s.began).Round(100*time.Millisecond))
		}
		return
	}
}

func (p *progress) find(name string) *step {
	for _, s := range p.steps {
		if s.name == name {
			return s
		}
	}
	return nil
}

// stop ends the display and clears its line. A second call does nothing.
func (p *progress) stop() {
	if p == nil {
		return
	}
	p.mu.Lock()
	select {
	case <-p.stopped:
	default:
		close(p.stopped)
	}
	p.mu.Unlock()
	p.ended.Wait()
}

func (p *progress) run() {
	t := time.NewTicker(200 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			p.show()
		case <-p.stopped:
			p.mu.Lock()
			p.clear()
			p.mu.Unlock()
			return
		}
	}
}

// show prints the oldest step that has become slow.
func (p *progress) show() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.steps {
		if time.Since(s.began) < quiet {
			continue
		}
		if !p.tty {
			if !s.said {
				s.said = true
				fmt.Fprintf(p.w, "%s …\n", s.name)
			}
			continue
		}
		s.said = true
		p.clear()
		fmt.Fprintf(p.w, "%s%s, %s", s.name, s.amount(), time.Since(s.began).Round(time.Second))
		p.shown = true
		return
	}
}

func (p *progress) clear() {
	if p.shown {
		io.WriteString(p.w, "\r\x1b[K")
		p.shown = false
	}
}

func (s *step) amount() string {
	switch {
	case s.total > 0:
		return fmt.Sprintf(" %s of %s", units.HumanSize(float64(s.done)), units.HumanSize(float64(s.total)))
	case s.done > 0:
		return " " + units.HumanSize(float64(s.done))
	}
	return ""
}
