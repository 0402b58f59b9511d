package container

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// maxHostname is how many bytes the kernel takes (sethostname(2)).
const maxHostname = 64

// ErrNoCommand means that neither the image nor the caller says what to run.
var ErrNoCommand = errors.New("no command: the image names none, so give one")

// annotationUser asks the agent to look a user up in the container's own
// files.
const annotationUser = "io.microsoft.lcow.userstr"

// SpecOptions change what an image says about its container. The zero value
// changes nothing.
type SpecOptions struct {
	Args       []string // replaces the image's command
	Entrypoint []string // replaces the image's entry point, and drops its command; nil keeps both, empty removes both
	Env        []string // NAME=value, added to or replacing the image's; NAME takes it out
	Dir        string   // working folder
	User       string   // name or id, with :group or :gid
	Hostname   string
	Terminal   bool
	ReadOnly   bool // the root is read-only

	CapAdd, CapDrop []string      // names with or without CAP_, or ALL
	Tmpfs           []string      // path[:options]
	Mounts          []specs.Mount // after the default ones; one at the same place replaces that
	ShmSize         int64         // bytes of /dev/shm; 0 means 64 MiB
	Ulimits         []specs.POSIXRlimit
	Memory          int64   // bytes; 0 means no limit but the VM's
	CPUs            float64 // 0 means no limit but the VM's
	Annotations     map[string]string
}

// Check returns the error that [NewSpec] has for o whatever the image says, so
// that it is known before there is one.
func (o SpecOptions) Check() error {
	_, err := newSpec(v1.Config{Cmd: []string{"any"}}, o)
	return err
}

// NewSpec returns the OCI spec of a container of img: docker's defaults, then
// what the image says, then o. Bad options are errors that name the option's
// value. The caller owns the spec.
func NewSpec(img *Image, o SpecOptions) (*specs.Spec, error) {
	s, err := newSpec(img.config, o)
	if err != nil {
		return nil, err
	}
	if s.Linux.Seccomp, err = seccompProfile(s); err != nil {
		return nil, fmt.Errorf("making the seccomp profile: %w", err)
	}
	return s, nil
}

// newSpec is NewSpec without the seccomp profile, which takes time.
func newSpec(cfg v1.Config, o SpecOptions) (*specs.Spec, error) {
	args, err := command(cfg.Entrypoint, cfg.Cmd, o)
	if err != nil {
		return nil, err
	}
	dir := o.Dir
	if dir == "" {
		dir = cfg.WorkingDir
	}
	if dir == "" {
		dir = "/"
	}
	if !path.IsAbs(dir) {
		return nil, fmt.Errorf("working folder %q is not an absolute path", dir)
	}
	caps, err := capabilities(o.CapAdd, o.CapDrop)
	if err != nil {
		return nil, err
	}
	mounts, err := mounts(o)
	if err != nil {
		return nil, err
	}
	resources, err := resources(o)
	if err != nil {
		return nil, err
	}
	for i, l := range o.Ulimits {
		if l.Soft > l.Hard {
			return nil, fmt.Errorf("ulimit %s: soft limit %d is above hard limit %d", l.Type, l.Soft, l.Hard)
		}
		if slices.ContainsFunc(o.Ulimits[:i], func(o specs.POSIXRlimit) bool { return o.Type == l.Type }) {
			return nil, fmt.Errorf("ulimit %s is there twice", l.Type)
		}
	}
	if len(o.Hostname) > maxHostname || strings.ContainsRune(o.Hostname, 0) {
		return nil, fmt.Errorf("host name %.80q is longer than the kernel's %d bytes", o.Hostname, maxHostname)
	}
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	if o.Terminal {
		env = append(env, "TERM=xterm")
	}
	if o.Hostname != "" {
		env = append(env, "HOSTNAME="+o.Hostname)
	}
	env = mergeEnv(mergeEnv(env, cfg.Env), o.Env)
	s := &specs.Spec{
		Version: "1.0.2",
		Process: &specs.Process{
			Terminal:        o.Terminal,
			Args:            args,
			Env:             env,
			Cwd:             dir,
			Capabilities:    &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
			Rlimits:         o.Ulimits,
			NoNewPrivileges: false,
		},
		Root:     &specs.Root{Path: "rootfs", Readonly: o.ReadOnly},
		Hostname: o.Hostname,
		Mounts:   mounts,
		Linux: &specs.Linux{
			Namespaces:    namespaces(),
			Resources:     resources,
			MaskedPaths:   slices.Clone(maskedPaths),
			ReadonlyPaths: slices.Clone(readonlyPaths),
		},
		Annotations: map[string]string{},
	}
	for k, v := range o.Annotations {
		s.Annotations[k] = v
	}
	user := o.User
	if user == "" {
		user = cfg.User
	}
	if user != "" && user != "0" && user != "root" && user != "0:0" {
		s.Annotations[annotationUser] = user
	}
	return s, nil
}

func command(entrypoint, cmd []string, o SpecOptions) ([]string, error) {
	if o.Entrypoint != nil {
		entrypoint, cmd = o.Entrypoint, nil
		if len(entrypoint) == 1 && entrypoint[0] == "" {
			entrypoint = nil
		}
	}
	if len(o.Args) > 0 {
		cmd = o.Args
	}
	args := slices.Concat(entrypoint, cmd)
	if len(args) == 0 || args[0] == "" {
		return nil, ErrNoCommand
	}
	return args, nil
}

// mergeEnv adds entries to env; a name that is there already is replaced, and
// taken out by an entry without a value.
func mergeEnv(env, entries []string) []string {
	out := slices.Clone(env)
	for _, e := range entries {
		name, _, set := strings.Cut(e, "=")
		i := slices.IndexFunc(out, func(s string) bool { return strings.HasPrefix(s, name+"=") })
		switch {
		case i >= 0 && set:
			out[i] = e
		case i >= 0:
			out = slices.Delete(out, i, i+1)
		case set:
			out = append(out, e)
		}
	}
	return out
}

func namespaces() []specs.LinuxNamespace {
	return []specs.LinuxNamespace{
		{Type: specs.PIDNamespace},
		{Type: specs.NetworkNamespace},
		{Type: specs.IPCNamespace},
		{Type: specs.UTSNamespace},
		{Type: specs.MountNamespace},
		{Type: specs.CgroupNamespace},
	}
}

// What docker hides from a container, or shows read-only.
var (
	maskedPaths = []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
	}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)
