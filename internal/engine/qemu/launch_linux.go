package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/internal/engine/qemu/qmp"
	"github.com/byrevm/byre/internal/vsock/vhostuser"
)

// firstFile is the descriptor at which a child finds the first of its files.
const firstFile = 3

// A vmm is the QEMU of this host.
type vmm struct {
	binary, accel string
	firmware      string
}

// launch brings s to where Start can let the guest run. On error the caller
// closes s, which undoes all of it.
func (s *system) launch(ctx context.Context, v vmm, files bootFiles) error {
	if err := s.stage("cgroup", s.makeCgroups); err != nil {
		return err
	}
	if err := s.bringUp(ctx, v, files); err != nil {
		return err
	}
	if len(s.m.attached) == 0 {
		return nil
	}
	return s.stage("devices", func() error {
		for _, a := range s.m.attached {
			if err := s.plug(ctx, a); err != nil {
				return fmt.Errorf("%s: %w", a.path, err)
			}
		}
		return nil
	})
}

// bringUp starts QEMU and connects to it.
func (s *system) bringUp(ctx context.Context, v vmm, files bootFiles) error {
	defer close(s.connected)
	var conn *net.UnixConn
	err := s.stage("vmm-spawn", func() (err error) {
		conn, err = s.spawn(ctx, v, files)
		return err
	})
	if err != nil {
		return err
	}
	return s.stage("vmm-ready", func() error {
		if err := s.connect(ctx, conn); err != nil || s.m.screen == nil {
			return err
		}
		return s.openScreen(ctx)
	})
}

func (s *system) makeCgroups() error {
	host, err := findCgroups()
	if err != nil {
		return err
	}
	// An owner with another run folder may have a system of the same id.
	g, dirs := host.plan(fmt.Sprintf("%s-%08x", folderName(s.m.id), s.runtimeID.Data1))
	if err := s.claim.note(func(r *record) { r.Cgroups = dirs }); err != nil {
		return err
	}
	if len(dirs) > 0 { // before they are made: the owner may die in between
		if s.watcher, err = watch(dirs); err != nil {
			return err
		}
	}
	s.cgroups = g
	if err := g.make(s.m); err != nil {
		return err
	}
	if len(g.made) == 0 && s.watcher != nil {
		s.watcher.stop()
		s.watcher = nil
	}
	return nil
}

// spawn starts QEMU with its sockets and files and returns our end of QMP.
func (s *system) spawn(ctx context.Context, v vmm, files bootFiles) (_ *net.UnixConn, err error) {
	cred := credential(s.claim.rec.UID, v.accel)
	var child []*os.File // closed here in any case; QEMU has its own
	defer func() {
		for _, f := range child {
			f.Close()
		}
	}()
	pass := func(f *os.File) int {
		child = append(child, f)
		return firstFile + len(child) - 1
	}
	in := inherited{firmware: v.firmware}
	ourQMP, theirs, err := socketpair("qmp")
	if err != nil {
		return nil, err
	}
	in.qmp = pass(theirs)
	conn, err := unixConn(ourQMP)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			conn.Close()
		}
	}()
	ours, theirs, err := socketpair("vsock")
	if err != nil {
		return nil, err
	}
	in.vsock = pass(theirs)
	if err := s.openVsock(ours); err != nil {
		return nil, err
	}
	if s.m.plan9 {
		if ours, theirs, err = socketpair("shares"); err != nil {
			return nil, err
		}
		in.shares = pass(theirs)
		if err := s.openShares(ours); err != nil {
			return nil, err
		}
	}
	ours, theirs, err = socketpair("console")
	if err != nil {
		return nil, err
	}
	in.console = pass(theirs)
	if err := s.openConsole(ctx, ours); err != nil {
		return nil, err
	}
	for _, f := range []struct {
		file *os.File
		path *string
	}{{files.kernel, &in.kernel}, {files.initrd, &in.initrd}} {
		if f.file == nil {
			continue
		}
		dup, err := bootFile(f.file, cred)
		if err != nil {
			return nil, err
		}
		*f.path = fmt.Sprintf("/proc/self/fd/%d", pass(dup))
	}
	cmd := exec.Command(v.binary, argv(s.m, v.accel, in)...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}
	cmd.ExtraFiles = child
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	if s.proc, err = spawn(cmd); err != nil {
		return nil, err
	}
	s.log.DebugContext(ctx, "QEMU started", "pid", s.proc.pid(), "args", strings.Join(cmd.Args, " "))
	s.background(s.supervise)
	if d := s.folders.device; d != nil {
		s.background(func() { s.superviseShares(d) })
	}
	return conn, s.adopt()
}

// adopt writes the new QEMU down and moves it into its cgroups.
func (s *system) adopt() error {
	st, err := readStat(s.proc.pid())
	if err != nil {
		return err
	}
	err = s.claim.note(func(r *record) { r.VMM = proc{PID: s.proc.pid(), Start: st.start} })
	if err != nil {
		return err
	}
	if err := s.cgroups.add(s.proc.pid()); err != nil {
		return fmt.Errorf("moving QEMU into its cgroup: %w", err)
	}
	return nil
}

func (s *system) openVsock(ours *os.File) error {
	conn, err := unixConn(ours)
	if err != nil {
		return err
	}
	s.vsock = vhostuser.New(conn, vhostuser.Config{Logger: s.log})
	l, err := s.vsock.Listen(hcs.ClockPort)
	if err != nil {
		return err
	}
	s.background(func() { serveClock(l) })
	return nil
}

func (s *system) openConsole(ctx context.Context, ours *os.File) (err error) {
	if p := s.m.consolePath; p != "" {
		if _, err := os.Lstat(p); err == nil {
			ours.Close()
			return fmt.Errorf("serial port on %s: %w", p, os.ErrExist)
		}
		if err := s.claim.note(func(r *record) { r.Sockets = []string{p} }); err != nil {
			ours.Close()
			return err
		}
	}
	s.console, err = newConsole(ctx, ours, s.m.consolePath)
	return err
}

// bootFile returns a descriptor of f, or of a copy, that QEMU may open again.
func bootFile(f *os.File, cred *syscall.Credential) (*os.File, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	r, err := readable(f, fi.Size(), cred)
	if err != nil || r != f {
		return r, err
	}
	// Its own descriptor, for the caller closes what it passes.
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// connect waits for QEMU's monitor.
func (s *system) connect(ctx context.Context, conn *net.UnixConn) error {
	c, err := qmp.New(ctx, conn, s.event)
	if err != nil {
		return err
	}
	s.qmp = c
	v := c.Version()
	if v.Major < oldestMajor || v.Major == oldestMajor && v.Minor < oldestMinor {
		return fmt.Errorf("%w: QEMU %s, older than %d.%d (%s brings a newer one)", hcs.ErrNotSupported, v, oldestMajor, oldestMinor, install)
	}
	return nil
}

// event handles what QEMU reports by itself.
func (s *system) event(e qmp.Event) {
	var d struct {
		Device string `json:"device"`
		Reason string `json:"reason"`
	}
	if json.Unmarshal(e.Data, &d) != nil {
		return
	}
	switch e.Name {
	case "SHUTDOWN":
		s.mu.Lock()
		s.reason = d.Reason
		s.mu.Unlock()
	case "DEVICE_DELETED":
		s.mu.Lock()
		gone := s.deleted[d.Device]
		delete(s.deleted, d.Device)
		s.mu.Unlock()
		if gone != nil {
			close(gone)
			return
		}
		s.ejected(d.Device)
	}
}

// supervise waits for the end of QEMU and says why it came.
func (s *system) supervise() {
	<-s.proc.done
	<-s.console.done
	<-s.connected
	if s.qmp != nil {
		<-s.qmp.Done() // every event has been handled
		s.qmp.Close()
	}
	s.vsock.Close()
	if s.folders.device != nil {
		// Not waited for: a file system of the host can be slow.
		s.background(func() { s.folders.device.Close() })
	}
	if s.screen != nil {
		s.screen.Close()
	}
	e := end{booted: s.m.boot != nil, console: s.console.text.all()}
	s.proc.describe(&e)
	if e.signal != "" && s.cgroups.oomKilled() {
		e.signal += ", the host was out of memory"
	}
	s.mu.Lock()
	e.terminated, e.reason, e.misused = s.terminated, s.reason, s.misused
	s.exit = e.exit()
	exit := s.exit
	s.mu.Unlock()
	close(s.done)
	s.log.Info("system stopped", "why", exit.Error())
}

// unixConn makes a connection of one end of a socket pair, which it closes.
func unixConn(f *os.File) (*net.UnixConn, error) {
	c, err := net.FileConn(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return c.(*net.UnixConn), nil
}
