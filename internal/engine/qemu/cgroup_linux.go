package qemu

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/hcs"
)

// controllers are those that a system uses, where they exist.
var controllers = []string{"cpu", "memory", "pids"}

// A cgroupHost says where the cgroups of this process are.
type cgroupHost struct {
	unified string            // folder in the hierarchy of version 2, or ""
	v1      map[string]string // controller to folder
}

// cgroups are those of one system: one folder in version 2, one for each
// controller in version 1.
type cgroups struct {
	host *cgroupHost
	name string
	made map[string]string // controller, or "" for version 2, to folder
}

// findCgroups reads where this process is.
func findCgroups() (*cgroupHost, error) {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := &cgroupHost{v1: make(map[string]string)}
	paths := parseOwn(string(own))
	for s := bufio.NewScanner(f); s.Scan(); {
		m, ok := parseMount(s.Text())
		if !ok {
			continue
		}
		if m.kind == "cgroup2" {
			if dir, ok := m.under(paths[""]); ok {
				h.unified = dir
			}
			continue
		}
		for _, c := range controllers {
			if own, ok := paths[c]; ok && slices.Contains(m.options, c) {
				if dir, ok := m.under(own); ok {
					h.v1[c] = dir
				}
			}
		}
	}
	return h, nil
}

// parseOwn reads /proc/self/cgroup (cgroups(7)): "id:controllers:path".
func parseOwn(text string) map[string]string {
	paths := make(map[string]string)
	for line := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		for c := range strings.SplitSeq(f[1], ",") {
			paths[c] = f[2]
		}
	}
	return paths
}

type cgroupMount struct {
	root, dir, kind string
	options         []string
}

// parseMount reads a line of mountinfo (proc(5)).
func parseMount(line string) (cgroupMount, bool) {
	left, right, ok := strings.Cut(line, " - ")
	l, r := strings.Fields(left), strings.Fields(right)
	if !ok || len(l) < 6 || len(r) < 3 || r[0] != "cgroup" && r[0] != "cgroup2" {
		return cgroupMount{}, false
	}
	return cgroupMount{root: l[3], dir: l[4], kind: r[0], options: strings.Split(r[2], ",")}, true
}

// under returns the folder of a cgroup in this mount, which may show only a
// part of the hierarchy.
func (m cgroupMount) under(path string) (string, bool) {
	rel, err := filepath.Rel(m.root, path)
	if err != nil || path == "" || strings.HasPrefix(rel, "..") {
		return "", false
	}
	return filepath.Join(m.dir, rel), true
}

// plan returns the cgroups of a system, none of which is made, and their
// folders.
func (h *cgroupHost) plan(name string) (*cgroups, []string) {
	g := &cgroups{host: h, name: "byre-" + name, made: make(map[string]string)}
	var dirs []string
	for _, c := range controllers {
		if parent, ok := h.v1[c]; ok {
			dirs = append(dirs, filepath.Join(parent, g.name))
		}
	}
	if h.unified != "" && len(h.v1) == 0 {
		dirs = append(dirs, filepath.Join(h.unified, g.name), filepath.Join(filepath.Dir(h.unified), g.name))
	}
	return g, dirs
}

// make makes what can be made. That nothing can, as for a user who may not,
// is an error only if m asks for a limit.
func (g *cgroups) make(m *machine) error {
	limited := m.shares != shares{}
	var errs []error
	for c, parent := range g.host.v1 {
		if err := g.mkdir(c, parent); err != nil {
			errs = append(errs, err)
		}
	}
	if g.host.unified != "" && len(g.host.v1) == 0 {
		if err := g.makeUnified(limited); err != nil {
			errs = append(errs, err)
		}
	}
	if !limited {
		return nil
	}
	if err := g.limit(m.shares, m.processors); err != nil {
		return fmt.Errorf("%w: a processor limit or weight on this host: %w", hcs.ErrNotSupported, errors.Join(append(errs, err)...))
	}
	return nil
}

func (g *cgroups) mkdir(controller, parent string) error {
	dir := filepath.Join(parent, g.name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	g.made[controller] = dir
	return nil
}

// makeUnified makes a child of the owner's own cgroup. Its processes keep
// that one from giving controllers to children, so a system with limits
// becomes its sibling.
func (g *cgroups) makeUnified(limited bool) error {
	parent := g.host.unified
	if limited && hasFile(parent, "cgroup.type") { // the root of a hierarchy has none
		parent = filepath.Dir(parent)
	}
	if limited {
		// It may be on already, or not ours to turn on: limit will tell.
		_ = os.WriteFile(filepath.Join(parent, "cgroup.subtree_control"), []byte("+cpu"), 0o644)
	}
	return g.mkdir("", parent)
}

// limit writes what a system with so many processors gets of the host's.
func (g *cgroups) limit(s shares, processors int) error {
	dir, unified := g.made[""]
	if !unified {
		var ok bool
		if dir, ok = g.made["cpu"]; !ok {
			return errors.New("no cgroup with the controller cpu can be made")
		}
	}
	for _, f := range s.files(processors, unified) {
		if err := write(dir, f.name, f.text); err != nil {
			return err
		}
	}
	return nil
}

// A setting is a file of a cgroup and what is written to it.
type setting struct{ name, text string }

// files are the files of the controller cpu, of version 2 if unified is set.
func (s shares) files(processors int, unified bool) (f []setting) {
	quota := s.quota(processors)
	switch {
	case s.limit == 0:
	case unified && quota == 0:
		f = append(f, setting{"cpu.max", "max"})
	case unified:
		f = append(f, setting{"cpu.max", fmt.Sprintf("%d %d", quota, cpuPeriod)})
	case quota == 0:
		f = append(f, setting{"cpu.cfs_quota_us", "-1"})
	default:
		f = append(f, setting{"cpu.cfs_period_us", strconv.Itoa(cpuPeriod)}, setting{"cpu.cfs_quota_us", strconv.FormatInt(quota, 10)})
	}
	switch {
	case s.weight == 0:
	case unified:
		f = append(f, setting{"cpu.weight", strconv.FormatInt(s.weight, 10)})
	default: // 100 is the default here, 1024 there
		f = append(f, setting{"cpu.shares", strconv.FormatInt(max(2, s.weight*1024/defaultWeight), 10)})
	}
	return f
}

// add moves a process into the cgroups.
func (g *cgroups) add(pid int) error {
	var errs []error
	for _, dir := range g.made {
		errs = append(errs, write(dir, "cgroup.procs", strconv.Itoa(pid)))
	}
	return errors.Join(errs...)
}

// oomKilled reports whether the host's kernel killed a process in them for
// want of memory.
func (g *cgroups) oomKilled() bool {
	for _, dir := range g.made {
		for _, file := range []string{"memory.events", "memory.oom_control"} {
			b, _ := os.ReadFile(filepath.Join(dir, file))
			for line := range strings.Lines(string(b)) {
				if n, ok := strings.CutPrefix(strings.TrimSpace(line), "oom_kill "); ok && n != "0" {
					return true
				}
			}
		}
	}
	return false
}

func write(dir, file, text string) error {
	err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644)
	if errors.Is(err, unix.ESRCH) {
		return nil // the process has ended
	}
	return err
}

func hasFile(dir, name string) bool {
	_, err := os.Lstat(filepath.Join(dir, name))
	return err == nil
}
