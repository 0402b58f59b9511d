// Package leak checks that a test leaves nothing on the host: no process,
// network interface, mount, socket, file, loop device or cgroup more than
// there was before it.
package leak

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// patience is how long what a test used may take to go after the test.
const patience = 5 * time.Second

// Check notes what there is now and fails t if its end leaves more. Folders
// are watched for files below them, besides those that byre uses by default.
// Call it before anything that t cleans up is made.
func Check(t testing.TB, folders ...string) {
	t.Helper()
	before := Take(folders...)
	t.Cleanup(func() {
		t.Helper()
		// What is there the whole time: others may work on this host too.
		var seen Snapshot
		for deadline := time.Now().Add(patience); ; {
			now := Take(folders...)
			if seen != nil {
				maps.DeleteFunc(now, func(k string, _ bool) bool { return !seen[k] })
			}
			seen = now
			left := now.Since(before)
			if len(left) == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Errorf("left behind:\n\t%s", strings.Join(left, "\n\t"))
				return
			}
			wait()
		}
	})
}

// wait lets the kernel and other processes go on: most of what is looked at
// has no event to wait for.
func wait() { <-time.After(20 * time.Millisecond) }

// A Snapshot is what there is on the host at one time, by what it is.
type Snapshot map[string]bool

// Take makes a snapshot.
func Take(folders ...string) Snapshot {
	s := make(Snapshot)
	s.processes()
	s.interfaces()
	s.mounts()
	s.sockets()
	s.descriptors()
	s.loopDevices()
	s.cgroups()
	for _, dir := range append([]string{"/run/byre"}, folders...) {
		s.files(dir)
	}
	delete(s, "file /run/byre/.lock") // it stays, so that there is one
	s.networks("/run/byre/.network")
	return s
}

// Since returns what s has more than before, sorted.
func (s Snapshot) Since(before Snapshot) []string {
	var left []string
	for k := range maps.Keys(s) {
		if !before[k] {
			left = append(left, k)
		}
	}
	slices.Sort(left)
	return left
}

// processes adds our descendants, and every QEMU that has lost who started it.
func (s Snapshot) processes() {
	type process struct {
		parent int
		name   string
	}
	all := make(map[int]process)
	for _, stat := range glob("/proc/[0-9]*/stat") {
		b, err := os.ReadFile(stat)
		if err != nil {
			continue // gone
		}
		open, end := strings.IndexByte(string(b), '('), strings.LastIndexByte(string(b), ')')
		fields := strings.Fields(string(b[end+1:]))
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(stat)))
		if open < 0 || len(fields) < 2 || fields[0] == "Z" {
			continue
		}
		parent, _ := strconv.Atoi(fields[1])
		all[pid] = process{parent, string(b[open+1 : end])}
	}
	for pid, p := range all {
		ours := strings.HasPrefix(p.name, "qemu-system") && p.parent <= 1
		for up := p.parent; up > 1 && !ours; up = all[up].parent {
			ours = up == os.Getpid()
		}
		if ours {
			s[fmt.Sprintf("process %d %s", pid, p.name)] = true
		}
	}
}

func (s Snapshot) interfaces() {
	for _, i := range glob("/sys/class/net/*") {
		s["network interface "+filepath.Base(i)] = true
	}
}

func (s Snapshot) mounts() {
	for line := range lines("/proc/self/mountinfo") {
		if f := strings.Fields(line); len(f) > 4 {
			s["mount "+f[4]] = true
		}
	}
}

// sockets adds the Unix sockets that have a path.
func (s Snapshot) sockets() {
	for line := range lines("/proc/net/unix") {
		if f := strings.Fields(line); len(f) > 7 && strings.Contains(f[7], "byre") {
			s["socket "+f[7]] = true
		}
	}
}

// descriptors adds the files, sockets and anonymous memory that this process
// has open, by what they are.
func (s Snapshot) descriptors() {
	for _, fd := range glob("/proc/self/fd/*") {
		to, err := os.Readlink(fd)
		if err != nil || strings.HasPrefix(to, "/proc/") || strings.HasPrefix(to, "anon_inode:[event") {
			continue
		}
		s["open "+to] = true
	}
}

func (s Snapshot) loopDevices() {
	for _, f := range glob("/sys/block/loop*/loop/backing_file") {
		b, err := os.ReadFile(f)
		if err == nil {
			s["loop device of "+strings.TrimSpace(string(b))] = true
		}
	}
}

func (s Snapshot) cgroups() {
	_ = filepath.WalkDir("/sys/fs/cgroup", func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(p, "byre") {
			s["cgroup "+p] = true
		}
		return nil
	})
}

func (s Snapshot) files(dir string) {
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && p != dir {
			s["file "+p] = true
		}
		return nil
	})
}

func glob(pattern string) []string {
	names, _ := filepath.Glob(pattern)
	return names
}

func lines(file string) func(func(string) bool) {
	b, err := os.ReadFile(file)
	if err != nil {
		b = nil
	}
	return strings.SplitSeq(string(b), "\n")
}

// networks replaces the files of a network that stay by what they say there
// is.
func (s Snapshot) networks(dir string) {
	delete(s, "file "+dir+"/lock")
	delete(s, "file "+dir+"/state")
	var state struct {
		Endpoints  []struct{ Endpoint struct{ ID string } }
		Namespaces []struct{ Namespace struct{ ID string } }
	}
	b, err := os.ReadFile(dir + "/state")
	if err != nil || json.Unmarshal(b, &state) != nil {
		return
	}
	for _, e := range state.Endpoints {
		s["endpoint "+e.Endpoint.ID] = true
	}
	for _, n := range state.Namespaces {
		s["namespace "+n.Namespace.ID] = true
	}
}
