//go:build linux

// Command guest is what tests run in a VM in place of its agent or beside it:
// it misbehaves as its argument says, or tells the time.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/vsock"
)

const (
	logPort    = 109
	clockPort  = 123
	bridgePort = 0x40000000
)

func main() {
	do := map[string]func() error{
		"mute":     sleep,
		"die":      func() error { return fmt.Errorf("guest: dying") },
		"hangup":   func() error { return bridge(func([]byte) []byte { return nil }) },
		"garbage":  func() error { return bridge(func([]byte) []byte { return []byte("HTTP/1.1 400 Bad Request\r\n\r\n") }) },
		"oversize": func() error { return bridge(func(h []byte) []byte { return answer(h, 1<<32-1) }) },
		"endless":  func() error { return bridge(func(h []byte) []byte { return append(answer(h, 4096), "{"...) }) },
		"clock":    clock,
		"state":    state,
		"setclock": setClock,
		"connect":  connect,
		"stream":   stream,
		"kill":     func() error { return unix.Kill(1, unix.SIGSEGV) },
		"scribble": func() error { return scribble(os.Args[2:]) },
		"poison":   poison,
	}
	if len(os.Args) < 2 || do[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "guest: do what?")
		os.Exit(2)
	}
	if err := do[os.Args[1]](); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func sleep() error {
	for {
		unix.Pause()
	}
}

// answer changes the header of the first message to that of its answer, of
// size bytes: type, size and id, little-endian.
func answer(h []byte, size uint32) []byte {
	h[3] += 0x10
	binary.LittleEndian.PutUint32(h[4:], size)
	return h
}

// bridge connects as an agent does, reads the header of the first message and
// writes what reply makes of it; if that is nothing it hangs up. Then it stays.
func bridge(reply func(header []byte) []byte) error {
	c, err := vsock.Dial(context.Background(), vsock.CIDHost, bridgePort)
	if err != nil {
		return err
	}
	h := make([]byte, 16)
	if _, err := io.ReadFull(c, h); err != nil {
		return err
	}
	b := reply(h)
	if _, err := c.Write(b); err != nil {
		return err
	}
	if len(b) == 0 {
		c.Close()
	}
	return sleep()
}

// clock answers each line with the time.
func clock() error {
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		fmt.Println(time.Now().UnixNano())
	}
	return nil
}

// state prints what containers leave if anything does: mounts, disks, folders,
// cgroups and processes.
func state() error {
	mounts, err := os.ReadFile("/proc/1/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mounts)) {
		fmt.Println("mount", strings.Fields(line)[4])
	}
	for _, pattern := range []string{"/run/gcs/c/*", "/run/mounts/*", "/sys/block/sd*", "/sys/fs/cgroup/*/", "/sys/fs/cgroup/*/*/"} {
		names, _ := filepath.Glob(pattern)
		for _, n := range names {
			fmt.Println(n)
		}
	}
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range procs {
		b, _ := os.ReadFile(p)
		if len(b) > 0 && !strings.HasPrefix(string(b), os.Args[0]) {
			fmt.Printf("process %s %q\n", filepath.Base(filepath.Dir(p)), b)
		}
	}
	return nil
}

// setClock puts the clock an hour ahead.
func setClock() error {
	ts := unix.NsecToTimespec(time.Now().Add(time.Hour).UnixNano())
	return unix.ClockSettime(unix.CLOCK_REALTIME, &ts)
}

// connect opens as many connections as it can, to every kind of port, and
// says how many it got, and how many of them the host keeps.
func connect() error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []*vsock.Conn
	ports := []uint32{1, logPort, clockPort, bridgePort, 564, 0, 22, 1<<32 - 2}
	const tries = 4000
	for w := range 16 {
		wg.Go(func() {
			for i := w; i < tries; i += 16 {
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				c, err := vsock.Dial(ctx, vsock.CIDHost, ports[i%len(ports)])
				cancel()
				if err != nil {
					continue
				}
				c.Write(make([]byte, 4096)) // of which nobody reads the answers
				mu.Lock()
				open = append(open, c)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	fmt.Println(len(open))
	var kept atomic.Int32
	for _, c := range open {
		wg.Go(func() {
			c.SetReadDeadline(time.Now().Add(time.Second))
			if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
				kept.Add(1) // else the host has closed it
			}
		})
	}
	wg.Wait()
	fmt.Println(kept.Load())
	return nil
}

// stream writes to the log connection of the agent without end.
func stream() error {
	agent, err := unix.PidfdOpen(1, 0)
	if err != nil {
		return err
	}
	fd, err := unix.PidfdGetfd(agent, 2, 0)
	if err != nil {
		return err
	}
	junk := make([]byte, 64<<10)
	for i := range junk {
		junk[i] = byte(i * 7)
	}
	for {
		if _, err := unix.Write(fd, junk); err != nil {
			return err
		}
	}
}
