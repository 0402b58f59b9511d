//go:build linux

package guest

import (
	"context"
	"fmt"
	"os"
	"path"
	"sort"
	"strings"
	"syscall"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/guest/boot"
	"github.com/byrevm/byre/internal/guest/stdio"
)

// defaultPath is for processes whose environment has no PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// executeHere starts a process in the machine itself. Without terminal its
// streams are the connections to the host, with nothing between.
func (a *agent) executeHere(ctx context.Context, cid string, params hcsschema.LinuxProcessParameters, ports stdio.Ports) (*process, error) {
	argv := params.CommandArgs
	if len(argv) == 0 {
		var err error
		if argv, err = splitCommand(params.CommandLine); err != nil {
			return nil, err
		}
	}
	if len(argv) == 0 || argv[0] == "" {
		return nil, fmt.Errorf("a process needs a command")
	}
	attr := &syscall.ProcAttr{Dir: params.WorkingDirectory, Sys: &syscall.SysProcAttr{Setsid: true}}
	if attr.Dir == "" {
		attr.Dir = "/"
	}
	if !path.IsAbs(attr.Dir) {
		return nil, fmt.Errorf("working directory %.80q is not absolute", attr.Dir)
	}
	search := defaultPath
	if p, ok := params.Environment["PATH"]; ok {
		search = p
	}
	attr.Env = environment(params.Environment)
	if params.User != "" {
		cred, err := credential(params.User)
		if err != nil {
			return nil, err
		}
		attr.Sys.Credential = cred
	}
	file, err := boot.LookPath(argv[0], search)
	if err != nil {
		return nil, err
	}
	conns, err := stdio.Dial(ctx, ports, a.dial)
	if err != nil {
		return nil, err
	}
	s, err := newMachineStreams(a, params, conns, attr)
	if err != nil {
		conns.Close()
		return nil, err
	}
	defer s.close()
	child, err := a.env.Reaper.Start(file, argv, attr)
	if err != nil {
		s.abandon()
		return nil, err
	}
	p := &process{cid: cid, child: child, io: s.streams()}
	if err := a.register(p, s.start); err != nil {
		child.Signal(unix.SIGKILL)
		s.abandon()
		return nil, err
	}
	return p, nil
}

func environment(env map[string]string) []string {
	var list []string
	for k, v := range env {
		if k != "" && !strings.ContainsAny(k, "=\x00") && !strings.Contains(v, "\x00") {
			list = append(list, k+"="+v)
		}
	}
	if _, ok := env["PATH"]; !ok {
		list = append(list, "PATH="+defaultPath)
	}
	sort.Strings(list)
	return list
}

// credential looks a user up in the machine's own files.
func credential(name string) (*syscall.Credential, error) {
	u, err := user.GetExecUserPath(name, nil, "/etc/passwd", "/etc/group")
	if err != nil {
		return nil, fmt.Errorf("finding user %.80q: %w", name, err)
	}
	c := &syscall.Credential{Uid: uint32(u.Uid), Gid: uint32(u.Gid)}
	for _, g := range u.Sgids {
		c.Groups = append(c.Groups, uint32(g))
	}
	return c, nil
}

// machineStreams are the streams of a process in the machine: a terminal, or
// the connections themselves.
type machineStreams struct {
	conns stdio.Conns
	term  *stdio.Terminal
	files []*os.File // the process's ends
}

func newMachineStreams(a *agent, params hcsschema.LinuxProcessParameters, conns stdio.Conns, attr *syscall.ProcAttr) (*machineStreams, error) {
	s := &machineStreams{conns: conns}
	if params.EmulateConsole {
		term, slave, err := stdio.OpenTerminal(a.log)
		if err != nil {
			return nil, err
		}
		s.term, s.files = term, []*os.File{slave}
		if z := params.ConsoleSize; len(z) == 2 && z[0] > 0 && z[1] > 0 && z[0] < 1<<16 && z[1] < 1<<16 {
			term.Resize(uint16(z[0]), uint16(z[1])) // a new terminal takes any size
		}
		attr.Files = []uintptr{slave.Fd(), slave.Fd(), slave.Fd()}
		attr.Sys.Setctty = true
		return s, nil
	}
	files, err := stdio.Files(conns)
	if err != nil {
		return nil, err
	}
	s.files = files
	for _, f := range files {
		attr.Files = append(attr.Files, f.Fd())
	}
	return s, nil
}

func (s *machineStreams) streams() streams {
	if s.term != nil {
		return s.term
	}
	return stdio.Direct{}
}

// start lets the process talk to the host.
func (s *machineStreams) start() {
	if s.term != nil {
		s.term.Start(s.conns)
		return
	}
	s.conns.Close() // the process has them
}

// abandon closes the streams of a process that did not start.
func (s *machineStreams) abandon() {
	if s.term != nil {
		s.term.Abandon()
	}
	s.conns.Close()
}

// close closes the process's ends here.
func (s *machineStreams) close() {
	for _, f := range s.files {
		f.Close()
	}
}
