package qemu

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hns"
	"github.com/byrevm/byre/internal/place"
)

const (
	// program is what Debian's package qemu-system-x86 installs.
	program = "qemu-system-x86_64"
	install = "apt-get install qemu-system-x86"
	// oldest is the first version that this engine was built and tested with.
	oldestMajor, oldestMinor = 7, 2
	// build is the Windows build whose schema rules are followed.
	build = 19041
)

// A Config says how an engine works. The zero value is right for most.
type Config struct {
	Accel  string       // [AccelAuto], [AccelKVM] or [AccelTCG]; "" asks $BYRE_ACCEL, then is AccelAuto
	Binary string       // path of QEMU; "" looks for it in $PATH
	RunDir string       // where systems are written down; "" is /run/byre or the user's run folder
	Logger *slog.Logger // nil is slog.Default()
	// Network has the endpoints that adapters name; it must be an
	// [hns.Opener]. nil is hns.Host().
	Network hns.Network
}

// An Engine makes systems that QEMU runs.
type Engine struct {
	config Config
	log    *slog.Logger
	run    *runFolder
	// network has the endpoints.
	network hns.Network
	// decide finds the acceleration, once: it needs a probe.
	decide func() decision
}

type decision struct {
	accel, reason string
	words         []string // for the command line of kernels
	err           error
}

// New returns an engine. It looks at nothing yet; what this host lacks is
// Create's error.
func New(c Config) *Engine {
	e := &Engine{config: c, log: c.Logger, network: c.Network}
	if e.log == nil {
		e.log = slog.Default()
	}
	if e.network == nil {
		e.network = hns.Host()
	}
	if c.RunDir == "" {
		c.RunDir = defaultRunFolder()
	}
	e.run = &runFolder{path: c.RunDir, log: e.log}
	e.decide = sync.OnceValue(e.accelerate)
	return e
}

// accelerate decides between KVM and TCG and warns, once, if it is TCG though
// nobody asked for it.
func (e *Engine) accelerate() (d decision) {
	wanted := wantedAccel(e.config.Accel)
	var f Facts
	if wanted != AccelTCG {
		f = Probe()
	}
	d.accel, d.reason, d.err = Decide(wanted, f)
	if d.err == nil && d.accel == AccelTCG && wanted != AccelTCG {
		e.log.Warn("no usable KVM, systems are emulated and slow", "reason", d.reason)
	}
	if d.accel == AccelTCG {
		d.words = emulationWords(tscKHz())
	}
	return d
}

func wantedAccel(configured string) string {
	if configured != "" {
		return configured
	}
	if v := os.Getenv(AccelVariable); v != "" {
		return v
	}
	return AccelAuto
}

// Host implements [hcs.Engine].
func (e *Engine) Host() hcs.HostInfo {
	return hcs.HostInfo{
		Build: build, Processors: runtime.NumCPU(),
		BootFiles: bootFolders(), DefaultMemoryMB: defaultMemoryMB,
		PCIDevices: place.MaxAssigned,
	}
}

// bootFolders are the folders where boot files are looked for. Who names one
// means that one, and is told if it is not there.
func bootFolders() []string {
	if d := os.Getenv("BYRE_BOOT_FILES"); d != "" {
		return []string{d}
	}
	var dirs []string
	if exe, err := os.Executable(); err == nil {
		dirs = append(dirs, filepath.Join(filepath.Dir(exe), "LinuxBootFiles"))
	}
	dirs = append(dirs, "/var/lib/byre/boot")
	data := os.Getenv("XDG_DATA_HOME")
	if data == "" {
		if home, err := os.UserHomeDir(); err == nil {
			data = filepath.Join(home, ".local", "share")
		}
	}
	if data != "" {
		dirs = append(dirs, filepath.Join(data, "byre", "boot"))
	}
	return dirs
}

// binary returns the path of QEMU.
func (e *Engine) binary() (string, error) {
	if runtime.GOARCH != "amd64" {
		return "", fmt.Errorf("%w: virtual machines on %s", hcs.ErrNotSupported, runtime.GOARCH)
	}
	name := e.config.Binary
	if name == "" {
		name = program
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("QEMU is not here (%s brings it): %w", install, err)
	}
	return path, nil
}

// Create implements [hcs.Engine].
func (e *Engine) Create(ctx context.Context, id string, doc hcs.Document) (hcs.System, error) {
	s, err := e.create(ctx, id, doc)
	if err != nil {
		return nil, &hcs.Error{Op: "create", System: id, Err: err}
	}
	return s, nil
}

func (e *Engine) create(ctx context.Context, id string, doc hcs.Document) (_ *system, err error) {
	// First everything that has no side effect.
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if id == "" {
		return nil, errors.New("system without an id")
	}
	m, err := newMachine(id, doc, runtime.NumCPU())
	if err != nil {
		return nil, err
	}
	if err := checkMemory(m); err != nil {
		return nil, err
	}
	files, err := openBoot(m)
	if err != nil {
		return nil, err
	}
	defer files.close()
	binary, err := e.binary()
	if err != nil {
		return nil, err
	}
	firmware, err := firmwareFor(m)
	if err != nil {
		return nil, err
	}
	d := e.decide()
	if d.err != nil {
		return nil, d.err
	}
	if m.boot != nil {
		m.boot.cmdline = editCmdline(m.boot.cmdline, slices.Concat(memoryWords(m.memory), m.portWords(), d.words)...)
	}
	if err := m.checkText(); err != nil {
		return nil, err
	}

	s, err := newSystem(m, e.log)
	if err != nil {
		return nil, err
	}
	s.network = e.network
	defer func() {
		if err != nil {
			err = errors.Join(s.explain(err), s.Close())
		}
	}()
	if s.claim, err = e.run.claim(id); err != nil {
		return nil, err
	}
	if err := s.launch(ctx, vmm{binary, d.accel, firmware}, files); err != nil {
		return nil, err
	}
	return s, nil
}
