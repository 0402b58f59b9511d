//go:build linux

package clock

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"
)

// fake is a clock that is behind the host's by offset.
type fake struct {
	offset time.Duration
	sets   int
	slewed time.Duration
	fail   error
}

func (f *fake) keeper(dial func(context.Context) (net.Conn, error)) *Keeper {
	k := New(dial, slog.New(slog.DiscardHandler))
	k.now = func() time.Time { return time.Now().Add(-f.offset) }
	k.set = func(t time.Time) error {
		f.offset = time.Since(t)
		f.sets++
		return f.fail
	}
	k.slew = func(d time.Duration) error {
		f.slewed = d
		return f.fail
	}
	return k
}

// serve is the host's end. answer is what it makes of a nonce.
func serve(answer func(nonce uint64) (uint64, int64)) func(context.Context) (net.Conn, error) {
	return func(context.Context) (net.Conn, error) {
		guest, host := net.Pipe()
		go func() {
			defer host.Close()
			var q [8]byte
			for {
				if _, err := io.ReadFull(host, q[:]); err != nil {
					return
				}
				nonce, ns := answer(binary.LittleEndian.Uint64(q[:]))
				a := binary.LittleEndian.AppendUint64(nil, nonce)
				if _, err := host.Write(binary.LittleEndian.AppendUint64(a, uint64(ns))); err != nil {
					return
				}
			}
		}()
		return guest, nil
	}
}

func honest(nonce uint64) (uint64, int64) { return nonce, time.Now().UnixNano() }

// once runs a keeper until its first correction.
func once(t *testing.T, k *Keeper) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	return k.Run(ctx, cancel)
}

func TestFarOffIsSet(t *testing.T) {
	for _, offset := range []time.Duration{time.Hour, -time.Hour, 5 * time.Second, -300 * time.Millisecond} {
		f := &fake{offset: offset}
		if err := once(t, f.keeper(serve(honest))); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if f.sets != 1 || f.offset.Abs() > 100*time.Millisecond {
			t.Errorf("%v off: set %d times, now %v off", offset, f.sets, f.offset)
		}
	}
}

func TestNearIsSlewed(t *testing.T) {
	f := &fake{offset: 3 * time.Millisecond}
	if err := once(t, f.keeper(serve(honest))); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if f.sets != 0 || f.slewed == 0 {
		t.Errorf("set %d times, slewed by %v", f.sets, f.slewed)
	}
}

func TestSlowAnswersTellLittle(t *testing.T) {
	f := &fake{}
	k := f.keeper(nil)
	if err := k.adjust(150*time.Millisecond, 400*time.Millisecond); err != nil || f.sets != 0 || f.slewed != 0 {
		t.Errorf("got %v, %d sets, slewed by %v", err, f.sets, f.slewed)
	}
}

func TestRefused(t *testing.T) {
	refused := errors.New("refused")
	called := 0
	k := (&fake{}).keeper(func(context.Context) (net.Conn, error) { return nil, refused })
	if err := k.Run(t.Context(), func() { called++ }); !errors.Is(err, ErrRefused) || !errors.Is(err, refused) || called != 1 {
		t.Errorf("got %v, called %d times", err, called)
	}
}

func TestBadAnswers(t *testing.T) {
	for name, answer := range map[string]func(uint64) (uint64, int64){
		"other nonce": func(n uint64) (uint64, int64) { return n + 1, time.Now().UnixNano() },
		"absurd time": func(n uint64) (uint64, int64) { return n, -5 },
	} {
		f := &fake{}
		if err := f.keeper(serve(answer)).Run(t.Context(), nil); !errors.Is(err, ErrRefused) || f.sets != 0 {
			t.Errorf("%s: got %v, %d sets", name, err, f.sets)
		}
	}
	f := &fake{offset: time.Hour, fail: errors.New("not allowed")}
	if err := f.keeper(serve(honest)).Run(t.Context(), nil); !errors.Is(err, f.fail) {
		t.Errorf("got %v, want %v", err, f.fail)
	}
}
