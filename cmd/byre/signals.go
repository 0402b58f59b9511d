package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/byrevm/byre/cow"
	"github.com/byrevm/byre/hcsschema"
)

// interrupts is how many requests to end make byre give up on the command, as
// docker does.
const interrupts = 3

// hangupGrace is how long the command may go on after byre's terminal was
// closed. As the first process of its container it does not end by the signal
// unless it handles it, and there is nobody left to send another.
var hangupGrace = 10 * time.Second // shorter in tests

// signals passes what byre is sent on to the container's process. Until there
// is one, a signal that ends programs ends the run.
type signals struct {
	ch     chan os.Signal
	queue  chan syscall.Signal // to be delivered; who delivers may have to wait for the guest
	cancel context.CancelCauseFunc
	subst  syscall.Signal // sent instead of SIGINT and SIGTERM; 0 sends those
	term   bool           // byre began with a terminal
	done   sync.WaitGroup

	mu    sync.Mutex
	p     cow.Process // nil until forward
	tty   bool
	over  bool
	asked int            // how often the end was asked for
	last  syscall.Signal // ended the run
	grace *time.Timer    // ends the run after a hang-up
}

// catchSignals starts to catch signals; the context ends when one ends the
// run.
func catchSignals(ctx context.Context, stopSignal string) (context.Context, *signals) {
	ctx, cancel := context.WithCancelCause(ctx)
	s := &signals{
		ch: make(chan os.Signal, 32), queue: make(chan syscall.Signal, 32),
		cancel: cancel, subst: signalNumber(stopSignal), term: hasTerminal(),
	}
	signal.Notify(s.ch, slices.DeleteFunc(slices.Clone(caught), func(s os.Signal) bool {
		return s == syscall.SIGHUP && signal.Ignored(s)
	})...)
	s.done.Go(func() {
		defer close(s.queue)
		for sig := range s.ch {
			s.receive(sig.(syscall.Signal))
		}
	})
	s.done.Go(func() {
		for sig := range s.queue {
			s.deliver(ctx, sig)
		}
	})
	return ctx, s
}

// forward sends signals to p from now on.
func (s *signals) forward(p cow.Process, tty bool) {
	s.mu.Lock()
	s.p, s.tty = p, tty
	s.mu.Unlock()
	if tty {
		select {
		case s.ch <- resized: // the size may have changed since the container was made
		default: // so many signals wait that one of them may be it
		}
	}
}

// resize tells that the terminal has another size, where no signal does.
func (s *signals) resize() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.p == nil || s.over {
		return
	}
	select {
	case s.queue <- resized:
	default: // one of those that wait may be it
	}
}

// ended returns the signal that ended the run, if one did.
func (s *signals) ended() (syscall.Signal, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last, s.last != 0
}

// stop ends the context too.
func (s *signals) stop() {
	signal.Stop(s.ch)
	s.mu.Lock()
	s.over = true
	if s.grace != nil {
		s.grace.Stop()
	}
	s.mu.Unlock()
	close(s.ch)
	s.cancel(nil)
	s.done.Wait()
}

// receive counts the requests to end and queues what is for the process.
func (s *signals) receive(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch sig {
	case syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT:
		s.asked++
		if s.p == nil || s.asked >= interrupts {
			s.end(sig)
			return
		}
		if sig == syscall.SIGHUP && s.grace == nil && s.term && !hasTerminal() {
			s.grace = time.AfterFunc(hangupGrace, func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				if !s.over {
					s.end(sig)
				}
			})
		}
	case syscall.SIGPIPE:
		return // a stream of byre's own is gone; writing to it fails
	}
	if s.p == nil {
		return
	}
	select {
	case s.queue <- sig:
	default:
		slog.Warn("signal not delivered: too many are under way", "signal", sig)
	}
}

// end ends the run; mu is held.
func (s *signals) end(sig syscall.Signal) {
	s.last = sig
	s.cancel(fmt.Errorf("interrupted (%v)", sig))
}

// deliver passes a signal on to the process.
func (s *signals) deliver(ctx context.Context, sig syscall.Signal) {
	s.mu.Lock()
	p, tty := s.p, s.tty
	s.mu.Unlock()
	if sig == resized {
		if box := terminalSize(os.Stdin); tty && box != nil {
			if err := p.ResizeConsole(ctx, uint16(box.Width), uint16(box.Height)); err != nil {
				slog.DebugContext(ctx, "console not resized", "err", err)
			}
		}
		return
	}
	if s.subst != 0 && (sig == syscall.SIGINT || sig == syscall.SIGTERM) {
		sig = s.subst
	}
	if _, err := p.Signal(ctx, hcsschema.SignalProcessOptionsLCOW{Signal: int(sig)}); err != nil && ctx.Err() == nil {
		slog.WarnContext(ctx, "signal not delivered", "signal", sig, "err", err)
	}
}
