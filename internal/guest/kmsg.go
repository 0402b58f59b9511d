//go:build linux

package guest

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/guest/logs"
)

// forwardKernelLog writes the kernel's messages up to a level (0 emergency …
// 7 debug) to the log, for as long as the process lives.
func forwardKernelLog(log *slog.Logger, level int) {
	f, err := os.Open("/dev/kmsg")
	if err != nil {
		log.Warn("kernel log is not forwarded", "err", err)
		return
	}
	defer f.Close()
	var b [8192]byte // one record at most
	for {
		n, err := f.Read(b[:])
		if errors.Is(err, unix.EPIPE) {
			continue // records were overwritten before they were read
		}
		if err != nil {
			log.Warn("kernel log is not forwarded any more", "err", err)
			return
		}
		if prio, msg, ok := parseKernel(string(b[:n])); ok && prio <= level {
			log.Log(context.Background(), kernelLevel(prio), "kernel", "text", msg)
		}
	}
}

// parseKernel takes a record apart: priority,sequence,µs,flags;text\n and then
// lines of properties. A record of a program is not the kernel's.
func parseKernel(rec string) (prio int, text string, ok bool) {
	head, rest, ok := strings.Cut(rec, ";")
	if !ok {
		return 0, "", false
	}
	p, _, _ := strings.Cut(head, ",")
	n, err := strconv.Atoi(p)
	if err != nil || n>>3 != 0 {
		return 0, "", false
	}
	text, _, _ = strings.Cut(rest, "\n")
	return n & 7, text, true
}

func kernelLevel(prio int) slog.Level {
	switch {
	case prio <= 3:
		return slog.LevelError
	case prio == 4:
		return slog.LevelWarn
	case prio <= 6:
		return slog.LevelInfo
	}
	return logs.LevelTrace
}
