package uvm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"
)

// What a guest may make the host hold and write.
const (
	maxLogEntry = 64 << 10 // bytes of one entry
	maxLogTail  = 64 << 10 // bytes that are kept of what cannot be parsed
	logRate     = 1 << 20  // bytes of entries that are logged in a second, on average
	logBurst    = 2 << 20  // bytes of entries that are logged at once
)

// LogOutput returns an [OutputHandler] that logs with log/slog what the agent
// of the VM id prints: a stream of JSON objects with the members time, level
// and msg and others besides. Each becomes an entry with the members as
// attributes, "uvm-id", and the guest's time as "vm.time".
//
// What is not such an object is taken for the last words of an agent that
// crashed: it is logged, to the end of the stream, as one error entry
// "gcs terminated". Longer entries than 64 KiB are not parsed, and of a guest
// that prints more than a MiB a second for long, entries are dropped and
// counted.
func LogOutput(id string) OutputHandler {
	return func(r io.Reader) { logOutput(slog.Default().With("uvm-id", id), r, time.Now) }
}

func logOutput(l *slog.Logger, r io.Reader, now func() time.Time) {
	ctx := context.Background()
	limit := &limitedReader{r: r}
	d := json.NewDecoder(limit)
	b := budget{left: logBurst, at: now()}
	defer b.report(ctx, l)
	for {
		limit.left = maxLogEntry
		var raw json.RawMessage
		err := d.Decode(&raw)
		if err == nil {
			var e map[string]any
			if json.Unmarshal(raw, &e) == nil && e != nil {
				if b.take(len(raw), now()) {
					b.report(ctx, l)
					logEntry(ctx, l, e)
				}
				continue
			}
		}
		if err == io.EOF {
			return
		}
		if limit.err != nil && limit.err != io.EOF && !endOfLog(limit.err) { //nolint:errorlint // a connection that broke may wrap it
			l.ErrorContext(ctx, "gcs log read", "err", limit.err)
		}
		tail := readTail(io.MultiReader(bytes.NewReader(raw), d.Buffered(), r))
		if tail = strings.TrimSpace(tail); tail != "" {
			l.ErrorContext(ctx, "gcs terminated", "stderr", tail)
		}
		return
	}
}

// logEntry logs what the guest logged.
func logEntry(ctx context.Context, l *slog.Logger, e map[string]any) {
	level, msg := slog.LevelInfo, ""
	attrs := make([]slog.Attr, 0, len(e))
	for k, v := range e {
		s, isString := v.(string)
		switch {
		case k == "level" && isString:
			level = hostLogLevel(s)
		case k == "msg" && isString:
			msg = s
		case k == "time" && isString:
			if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
				attrs = append(attrs, slog.Time("vm.time", t))
			} else {
				attrs = append(attrs, slog.String("vm.time", s))
			}
		case k == "uvm-id" || k == "vm.time": // the guest does not say which VM it is
		default:
			attrs = append(attrs, slog.Any(k, wholeNumber(v)))
		}
	}
	slices.SortFunc(attrs, func(a, b slog.Attr) int { return strings.Compare(a.Key, b.Key) })
	l.LogAttrs(ctx, level, msg, attrs...)
}

// wholeNumber makes a number that JSON has turned into a float64 an integer
// again, where it was one.
func wholeNumber(v any) any {
	if f, ok := v.(float64); ok && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		return int64(f)
	}
	return v
}

// hostLogLevel returns the level that has one of the agent's names. Nothing
// that a guest says is worse than an error of the host.
func hostLogLevel(name string) slog.Level {
	switch strings.ToLower(name) {
	case "trace":
		return slog.LevelDebug - 4
	case "debug":
		return slog.LevelDebug
	case "warning", "warn":
		return slog.LevelWarn
	case "error", "fatal", "panic":
		return slog.LevelError
	}
	return slog.LevelInfo
}

// endOfLog reports whether err is how a connection to a guest ends.
func endOfLog(err error) bool {
	return errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.ECONNABORTED)
}

// readTail reads r to its end and returns as much as may be kept.
func readTail(r io.Reader) string {
	var b bytes.Buffer
	io.CopyN(&b, r, maxLogTail)
	if n, _ := io.Copy(io.Discard, r); n > 0 {
		fmt.Fprintf(&b, "\n(%d bytes more)", n)
	}
	return b.String()
}

// A limitedReader fails when more than left bytes are read.
type limitedReader struct {
	r    io.Reader
	left int
	err  error // of r
}

var errLongEntry = errors.New("log entry too long")

func (l *limitedReader) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errLongEntry
	}
	n, err := l.r.Read(p[:min(len(p), l.left)])
	l.left -= n
	l.err = err
	return n, err
}

// A budget limits what is logged.
type budget struct {
	left    int       // bytes that may be logged at the time at
	at      time.Time // of the last take
	dropped int       // entries, since the last report
}

// take reports whether an entry of n bytes may be logged now.
func (b *budget) take(n int, now time.Time) bool {
	earned := min(now.Sub(b.at), logBurst/logRate*time.Second)
	b.left = min(logBurst, b.left+int(earned*logRate/time.Second))
	b.at = now
	if b.left < n {
		b.dropped++
		return false
	}
	b.left -= n
	return true
}

// report logs how many entries were dropped.
func (b *budget) report(ctx context.Context, l *slog.Logger) {
	if b.dropped > 0 {
		l.WarnContext(ctx, "log entries of the guest dropped", "count", b.dropped)
		b.dropped = 0
	}
}
