//go:build linux

package runc

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"strings"
)

// maxLog is how much of a log is read.
const maxLog = 64 << 10

// lastError returns the last error message of a JSON log, "" if there is none
// that can be read.
func lastError(f *os.File) string {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return ""
	}
	var last, plain string
	s := bufio.NewScanner(io.LimitReader(f, maxLog))
	s.Buffer(nil, maxLog)
	for s.Scan() {
		var e struct{ Level, Msg string }
		switch {
		case json.Unmarshal(s.Bytes(), &e) != nil:
			if t := strings.TrimSpace(s.Text()); t != "" {
				plain = t
			}
		case e.Level == "error" || e.Level == "fatal" || e.Level == "panic":
			last = e.Msg
		}
	}
	if last == "" {
		return plain
	}
	return last
}
