//go:build linux

package guest

import (
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"testing"

	"github.com/byrevm/byre/internal/guest/logs"
)

func TestSplitCommand(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"", "[]"}, {"  a  b\tc\n", `["a" "b" "c"]`}, {`a "b c" 'd e'`, `["a" "b c" "d e"]`}, {`a\ b "\"\n" '\'`, `["a b" "\"\\n" "\\"]`},
		{`a""b '' ""`, `["ab" "" ""]`}, {`"open`, "error"}, {`'open`, "error"}, {`end\`, "error"}, {`$HOME *`, `["$HOME" "*"]`},
	} {
		words, err := splitCommand(c.line)
		got := fmt.Sprintf("%q", words)
		if err != nil {
			got = "error"
		}
		if got != c.want {
			t.Errorf("%s: got %s, want %s", c.line, got, c.want)
		}
	}
}

func FuzzSplitCommand(f *testing.F) {
	f.Add(`a "b c" 'd' \e`)
	f.Fuzz(func(t *testing.T, s string) {
		words, err := splitCommand(s)
		if err == nil && len(strings.Join(words, "")) > len(s) {
			t.Errorf("%q has grown", words)
		}
	})
}

func TestEnvironment(t *testing.T) {
	got := environment(map[string]string{"B": "2", "A": "1", "": "x", "C=D": "x", "E": "a\x00b"})
	if want := "[A=1 B=2 PATH=" + defaultPath + "]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func TestExitCode(t *testing.T) {
	for _, c := range []struct {
		ws        syscall.WaitStatus
		contained bool
		want      uint32
	}{{7 << 8, true, 7}, {7 << 8, false, 7}, {9, true, 137}, {9, false, 0xffffffff}, {0, true, 0}} {
		if got := exitCode(c.ws, c.contained); got != c.want {
			t.Errorf("%#x: got %d, want %d", int(c.ws), got, c.want)
		}
	}
}

func TestParse(t *testing.T) {
	s, err := parse(strings.Fields("-v4 -log-format json -loglevel trace -root-mem-reserve-bytes 5 -gcs-mem-limit-bytes 6 -disable-time-sync -share-9p"))
	if err != nil || s.level != logs.LevelTrace || s.text || s.reserve != 5 || !s.noClock || !s.only9P {
		t.Errorf("got %+v, %v", s, err)
	}
	if s, err := parse([]string{"-log-format", "text"}); err != nil || !s.text || s.level != slog.LevelWarn || s.reserve != 75<<20 {
		t.Errorf("got %+v, %v", s, err)
	}
	for _, bad := range []string{"-loglevel loud", "-log-format xml", "-unknown", "word", "-root-mem-reserve-bytes -1"} {
		if _, err := parse(strings.Fields(bad)); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}

func TestParseKernel(t *testing.T) {
	for _, c := range []struct{ rec, want string }{
		{"3,12,345,-;Out of memory\n SUBSYSTEM=x\n", "3 Out of memory true"},
		{"12,12,345,-;a program's\n", "0  false"},
		{"x;y", "0  false"}, {"garbage", "0  false"}, {"", "0  false"},
	} {
		p, s, ok := parseKernel(c.rec)
		if got := fmt.Sprint(p, " ", s, " ", ok); got != c.want {
			t.Errorf("%q: got %s, want %s", c.rec, got, c.want)
		}
	}
}
