//go:build linux

package logs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestLines(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b)
	log := New(w, LevelTrace, false)
	log.Log(t.Context(), LevelTrace, "a")
	log.Debug("b")
	log.Info("c", "err", errors.New("x"), "n", 3)
	log.Warn("d")
	log.Error("e")
	Fatal(log, "f")
	w.Close(t.Context())
	log.Info("too late")
	var got []string
	for line := range strings.Lines(b.String()) {
		var e struct {
			Time       time.Time
			Level, Msg string
			Err        string
			N          int
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Time.IsZero() {
			t.Errorf("%s: %v", line, err)
		}
		got = append(got, fmt.Sprint(e.Level, " ", e.Msg, e.Err, e.N))
	}
	if want := "[trace a0 debug b0 info cx3 warning d0 error e0 fatal f0]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func TestLevels(t *testing.T) {
	for name, want := range map[string]slog.Level{"trace": LevelTrace, "Debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "warning": slog.LevelWarn, "error": slog.LevelError, "panic": LevelFatal} {
		if got, err := Level(name); got != want || err != nil {
			t.Errorf("%s: got %v, %v; want %v", name, got, err, want)
		}
	}
	if _, err := Level("loud"); err == nil {
		t.Error("an unknown level is accepted")
	}
}

// stuck is a host that does not read.
type stuck struct{ release chan struct{} }

func (s stuck) Write(p []byte) (int, error) {
	<-s.release
	return len(p), nil
}

func TestStuckHost(t *testing.T) {
	s := stuck{make(chan struct{})}
	w := NewWriter(s)
	for range 3 * queue {
		w.Write([]byte("line\n")) // does not wait
	}
	if w.dropped == 0 {
		t.Error("nothing was dropped")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	w.Close(ctx) // does not wait for ever
	close(s.release)
	w.Close(t.Context())
}

func TestLossIsTold(t *testing.T) {
	var b bytes.Buffer
	w := &Writer{lines: make(chan []byte, 1), done: make(chan struct{})}
	w.Write([]byte("1\n"))
	w.Write([]byte("2\n"))
	<-w.lines
	w.Write([]byte("3\n"))
	b.Write(<-w.lines)
	if !strings.Contains(b.String(), `"log lines were lost","count":1`) {
		t.Errorf("got %q", b.String())
	}
}
