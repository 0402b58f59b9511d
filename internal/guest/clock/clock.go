//go:build linux

package clock

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// Port is the host's port of the service.
const Port uint32 = 123

const (
	every  = time.Second            // between two questions
	answer = 5 * time.Second        // the host's time to answer
	retry  = 10 * time.Second       // after a connection that broke
	step   = 40 * time.Millisecond  // an offset beyond it is corrected at once
	slow   = 200 * time.Millisecond // an answer that took longer tells little
)

// ErrRefused means that the host has no such service.
var ErrRefused = errors.New("the host does not serve its clock")

// A Keeper keeps a clock. Its functions are the kernel's but in tests.
type Keeper struct {
	Dial func(ctx context.Context) (net.Conn, error)
	Log  *slog.Logger

	now  func() time.Time
	set  func(time.Time) error
	slew func(time.Duration) error
}

// New returns a keeper of the machine's clock.
func New(dial func(ctx context.Context) (net.Conn, error), log *slog.Logger) *Keeper {
	return &Keeper{Dial: dial, Log: log, now: time.Now, set: set, slew: slew}
}

// Run sets the clock and keeps it until ctx ends. It returns ErrRefused when
// the host never served it. first, if not nil, is called once, when the clock
// has been set or cannot be.
func (k *Keeper) Run(ctx context.Context, first func()) error {
	served := false
	for {
		err := k.connection(ctx, func() {
			if !served && first != nil {
				first()
			}
			served = true
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !served {
			if first != nil {
				first()
			}
			return fmt.Errorf("%w: %w", ErrRefused, err)
		}
		k.Log.Warn("clock service was interrupted", "err", err)
		select {
		case <-time.After(retry):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// connection keeps the clock for as long as one connection lasts.
func (k *Keeper) connection(ctx context.Context, adjusted func()) error {
	c, err := k.Dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	// Sleeping by the monotonic clock, which stands still while the machine
	// is suspended: afterwards the next question comes within a second.
	tick := time.NewTicker(every)
	defer tick.Stop()
	for nonce := uint64(1); ; nonce++ {
		offset, rtt, err := k.ask(c, nonce)
		if err != nil {
			return err
		}
		if err := k.adjust(offset, rtt); err != nil {
			return err
		}
		adjusted()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ask returns how far the clock is behind the host's, and how long the answer
// took: the offset may be wrong by half of that.
func (k *Keeper) ask(c net.Conn, nonce uint64) (offset, rtt time.Duration, err error) {
	c.SetDeadline(time.Now().Add(answer))
	var q [8]byte
	var a [16]byte
	binary.LittleEndian.PutUint64(q[:], nonce)
	asked := k.now()
	if _, err := c.Write(q[:]); err != nil {
		return 0, 0, err
	}
	if _, err := io.ReadFull(c, a[:]); err != nil {
		return 0, 0, err
	}
	if got := binary.LittleEndian.Uint64(a[:]); got != nonce {
		return 0, 0, fmt.Errorf("the host answered nonce %d to %d", got, nonce)
	}
	ns := binary.LittleEndian.Uint64(a[8:])
	if ns > 1<<62 {
		return 0, 0, fmt.Errorf("the host's time is %d", ns)
	}
	rtt = k.now().Sub(asked)
	at := asked.Add(rtt / 2)
	return time.Unix(0, int64(ns)).Sub(at.Round(0)), rtt, nil
}

// adjust corrects the clock: at once what is far off, gently the rest.
func (k *Keeper) adjust(offset, rtt time.Duration) error {
	far := offset.Abs() - rtt/2 // the least that it is off
	switch {
	case far > step:
		if err := k.set(k.now().Add(offset)); err != nil {
			return fmt.Errorf("setting the clock: %w", err)
		}
		k.Log.Info("clock set", "offset", offset.String())
	case rtt < slow:
		if err := k.slew(offset); err != nil {
			return fmt.Errorf("adjusting the clock: %w", err)
		}
	}
	return nil
}

func set(t time.Time) error {
	ts := unix.NsecToTimespec(t.UnixNano())
	return unix.ClockSettime(unix.CLOCK_REALTIME, &ts)
}

// slew lets the clock run faster or slower until the offset is gone, in place
// of what was left of the last one.
func slew(offset time.Duration) error {
	_, err := unix.Adjtimex(&unix.Timex{
		Modes:  unix.ADJ_OFFSET_SINGLESHOT,
		Offset: offset.Microseconds(),
	})
	return err
}
