package uvm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// parsed returns what the log handler makes of a stream, a line per entry.
func parsed(r io.Reader) string {
	var b bytes.Buffer
	h := slog.NewTextHandler(&b, &slog.HandlerOptions{
		Level: slog.LevelDebug - 8,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey && len(groups) == 0 && a.Value.Kind() == slog.KindTime {
				return slog.Attr{}
			}
			return a
		},
	})
	stopped := time.Now()
	logOutput(slog.New(h).With("uvm-id", "vm"), r, func() time.Time { return stopped })
	return b.String()
}

func TestCase70LogOutput(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"empty": {"", ""},
		"entries": {
			`{"level":"info","msg":"started","time":"2020-04-28T10:00:00.5Z","pid":42,"share":0.5}` + "\n" +
				`{"level":"warning","msg":"w"}{"level":"trace","msg":"t"}` + "\n" + `{"msg":"no level"}`,
			`level=INFO msg=started uvm-id=vm pid=42 share=0.5 vm.time=2020-04-28T10:00:00.500Z` + "\n" +
				`level=WARN msg=w uvm-id=vm` + "\n" +
				`level=DEBUG-4 msg=t uvm-id=vm` + "\n" +
				`level=INFO msg="no level" uvm-id=vm` + "\n",
		},
		"levels above error": {
			`{"level":"fatal","msg":"f"}{"level":"panic","msg":"p"}{"level":"debug","msg":"d"}{"level":"?","msg":"q"}`,
			"level=ERROR msg=f uvm-id=vm\nlevel=ERROR msg=p uvm-id=vm\nlevel=DEBUG msg=d uvm-id=vm\nlevel=INFO msg=q uvm-id=vm\n",
		},
		"a field named message": {`{"msg":"m","message":"kept"}`, "level=INFO msg=m uvm-id=vm message=kept\n"},
		"odd types":             {`{"msg":1,"level":{},"time":[]}`, `level=INFO msg="" uvm-id=vm level=map[] msg=1 time=[]` + "\n"},
		"a guest in disguise":   {`{"msg":"m","uvm-id":"other","vm.time":"x"}`, "level=INFO msg=m uvm-id=vm\n"},
		"an odd time":           {`{"msg":"m","time":"yesterday"}`, "level=INFO msg=m uvm-id=vm vm.time=yesterday\n"},
		"panic dump": {
			`{"msg":"m"}` + "\npanic: boom\n\ngoroutine 1 [running]:\n",
			"level=INFO msg=m uvm-id=vm\n" + `level=ERROR msg="gcs terminated" uvm-id=vm stderr="panic: boom\n\ngoroutine 1 [running]:"` + "\n",
		},
		"cut off":   {`{"msg":"m"}{"msg":"half`, "level=INFO msg=m uvm-id=vm\n" + `level=ERROR msg="gcs terminated" uvm-id=vm stderr="{\"msg\":\"half"` + "\n"},
		"no object": {`[1]`, `level=ERROR msg="gcs terminated" uvm-id=vm stderr=[1]` + "\n"},
		"null":      {`null`, `level=ERROR msg="gcs terminated" uvm-id=vm stderr=null` + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := parsed(strings.NewReader(c.in)); got != c.want {
				t.Errorf("got\n%swant\n%s", got, c.want)
			}
			if got := parsed(iotest.OneByteReader(strings.NewReader(c.in))); got != c.want {
				t.Errorf("byte by byte: got\n%swant\n%s", got, c.want)
			}
		})
	}
}

func TestLogOutputReadError(t *testing.T) {
	broken := func(err error) io.Reader {
		return io.MultiReader(strings.NewReader(`{"msg":"m"}`), iotest.ErrReader(err))
	}
	if got := parsed(broken(io.ErrClosedPipe)); strings.Contains(got, "gcs") {
		t.Errorf("a closed connection is logged:\n%s", got)
	}
	if got := parsed(broken(errors.New("boom"))); !strings.Contains(got, `msg="gcs log read" uvm-id=vm err=boom`) {
		t.Errorf("a broken connection is not logged:\n%s", got)
	}
}

// endless repeats a text until n bytes have been read.
func endless(text string, n int64) io.Reader {
	return io.LimitReader(&repeat{block: strings.Repeat(text, 4096)}, n)
}

type repeat struct {
	block string
	at    int
}

func (r *repeat) Read(p []byte) (int, error) {
	n := copy(p, r.block[r.at:])
	r.at = (r.at + n) % len(r.block)
	return n, nil
}

// TestLogOutputIsBounded checks that a hostile guest can neither make the host
// hold what it sends nor stop it from being read.
func TestLogOutputIsBounded(t *testing.T) {
	const size = 4 << 20
	for name, r := range map[string]io.Reader{
		"endless string": io.MultiReader(strings.NewReader(`{"msg":"`), endless("x", size)),
		"endless object": io.MultiReader(strings.NewReader(`{`), endless(`"a":1,`, size)),
		"endless depth":  endless(`{"a":`, size),
		"endless space":  endless(" ", size),
		"endless text":   endless("panic ", size),
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			got := parsed(r)
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; n > 3<<20 {
				t.Errorf("%d bytes allocated", n)
			}
			if len(got) > 4*maxLogTail {
				t.Errorf("%d bytes logged", len(got))
			}
			if n, _ := r.Read(make([]byte, 1)); n != 0 {
				t.Error("not read to the end")
			}
		})
	}
}

// TestLogOutputFlood checks that a guest cannot fill the host's log.
func TestLogOutputFlood(t *testing.T) {
	got := parsed(endless(`{"msg":"`+strings.Repeat("x", 1000)+`"}`, 2*logBurst))
	if len(got) > logBurst*3/2 {
		t.Errorf("%d bytes logged", len(got))
	}
	if !strings.Contains(got, `msg="log entries of the guest dropped" uvm-id=vm count=`) {
		t.Error("nothing says that entries were dropped")
	}
}

func TestBudget(t *testing.T) {
	now := time.Now()
	b := budget{left: logBurst, at: now}
	if !b.take(logBurst, now) || b.take(1, now) || b.dropped != 1 {
		t.Errorf("at once: %+v", b)
	}
	now = now.Add(time.Second)
	if b.take(logRate+1, now) || !b.take(logRate, now) {
		t.Errorf("after a second: %+v", b)
	}
	now = now.Add(1000 * time.Hour)
	if b.take(logBurst+1, now) || !b.take(logBurst, now) {
		t.Errorf("after a long time: %+v", b)
	}
}

func TestGuestLogLevel(t *testing.T) {
	for level, want := range map[slog.Level]string{
		slog.LevelDebug - 4: "trace",
		slog.LevelDebug - 1: "trace",
		slog.LevelDebug:     "debug",
		slog.LevelInfo:      "info",
		slog.LevelWarn:      "warning",
		slog.LevelError:     "error",
		slog.LevelError + 1: "fatal",
	} {
		l := slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: level}))
		if got := guestLogLevel(l); got != want {
			t.Errorf("%v: got %s, want %s", level, got, want)
		}
		if back := hostLogLevel(want); back < level && level != slog.LevelDebug-1 && want != "fatal" {
			t.Errorf("%s is logged at %v, which the host drops", want, back)
		}
	}
}

func FuzzLogOutput(f *testing.F) {
	for _, s := range []string{`{"msg":"m"}`, `{"time":1}{`, "null", "panic: x", fmt.Sprintf(`{"a":%s1}`, strings.Repeat(" ", 100))} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		parsed(r)
		if r.Len() != 0 {
			t.Errorf("%d bytes not read", r.Len())
		}
	})
}
