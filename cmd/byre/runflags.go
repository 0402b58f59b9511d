package main

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/pflag"

	"github.com/byrevm/byre/container"
)

// guestShare is what the guest's kernel, agent and runtime need beside the
// containers, in MiB.
const guestShare = 192

// maxCPUs is more processors than any host has.
const maxCPUs = 1024

// runFlags are the flags of byre run.
type runFlags struct {
	interactive, tty, rm, readOnly   bool
	name, workdir, user, hostname    string
	entrypoint, stopSignal           string
	env, envFile, tmpfs, ulimit      []string
	capAdd, capDrop                  []string
	shmSize, memory, vmMemory        string
	cpus                             float64
	vmCPUs                           int
	pull, platform, bootFiles, accel string
	timing, json                     bool
	volume, mount                    []string
	netFlags

	set *pflag.FlagSet // tells a flag that is given but empty
}

func (f *runFlags) add(s *pflag.FlagSet) {
	f.set = s
	s.BoolVarP(&f.interactive, "interactive", "i", false, "pass stdin on")
	s.BoolVarP(&f.tty, "tty", "t", false, "give the command a terminal")
	s.BoolVar(&f.rm, "rm", true, "delete the container when it ends (byre always does)")
	s.StringVar(&f.name, "name", "", "`id` of the container and its VM")
	s.StringArrayVarP(&f.env, "env", "e", nil, "`NAME=value` to set, or NAME to take from here")
	s.StringArrayVar(&f.envFile, "env-file", nil, "`file` with lines of NAME=value")
	s.StringVarP(&f.workdir, "workdir", "w", "", "working `folder`")
	s.StringVarP(&f.user, "user", "u", "", "`name|id[:group|gid]` to run as")
	s.StringVar(&f.entrypoint, "entrypoint", "", "`program` to run instead of the image's")
	s.StringVar(&f.hostname, "hostname", "", "host `name` in the container")
	s.BoolVar(&f.readOnly, "read-only", false, "make the root read-only")
	s.StringArrayVar(&f.tmpfs, "tmpfs", nil, "`path[:options]` of a file system in memory")
	s.StringVar(&f.shmSize, "shm-size", "", "`size` of /dev/shm (default 64m)")
	s.StringArrayVar(&f.ulimit, "ulimit", nil, "`name=soft[:hard]`")
	s.StringVar(&f.stopSignal, "stop-signal", "", "`signal` that an interrupt of byre itself sends (default: the one that came)")
	s.StringArrayVar(&f.capAdd, "cap-add", nil, "`capability` to add, or ALL")
	s.StringArrayVar(&f.capDrop, "cap-drop", nil, "`capability` to drop, or ALL")
	s.StringVarP(&f.memory, "memory", "m", "", "memory limit of the container, such as 512m")
	s.Float64Var(&f.cpus, "cpus", 0, "processors that the container may use, such as 1.5")
	s.StringVar(&f.pull, "pull", "missing", "`when` to ask the registry: always, missing or never")
	s.StringVar(&f.platform, "platform", "", "`os/arch` of the image")

	s.StringVar(&f.vmMemory, "vm-memory", "", "memory of the VM (default: the container's and the guest's share, or 1g)")
	s.IntVar(&f.vmCPUs, "vm-cpus", 0, "processors of the VM (default: what the container may use, or 2)")
	s.StringVar(&f.bootFiles, "boot-files", "", "`folder` to boot from (default: $BYRE_BOOT_FILES, LinuxBootFiles beside byre, /var/lib/byre/boot)")
	s.StringVar(&f.accel, "accel", "", "auto, kvm or tcg (default: $BYRE_ACCEL, or auto)")
	s.BoolVar(&f.timing, "timing", false, "print where the time went")
	s.BoolVar(&f.json, "json", false, "print a report as one line of JSON on stderr at the end")

	f.netFlags.add(s)
	s.StringArrayVarP(&f.volume, "volume", "v", nil, "`/host:/guest[:ro]`: a folder or file of the host that the container gets")
	s.StringArrayVar(&f.mount, "mount", nil, "the same as a list: `type=bind,source=,target=[,readonly]`")
	hostFlags(s)
}

// check refuses what cannot be had before anything is made.
func (f *runFlags) check() error {
	switch {
	case !slices.Contains([]string{"always", "missing", "never"}, f.pull):
		return fmt.Errorf("--pull %s: want always, missing or never", f.pull)
	case !slices.Contains([]string{"", "auto", "kvm", "tcg"}, f.accel):
		return fmt.Errorf("--accel %s: want auto, kvm or tcg", f.accel)
	case f.accel != "" && runtime.GOOS != "linux":
		return fmt.Errorf("--accel %s: only QEMU has a choice, on Linux", f.accel)
	case f.stopSignal != "" && signalNumber(f.stopSignal) == 0:
		return fmt.Errorf("--stop-signal %s is not known", f.stopSignal)
	case f.vmCPUs < 0 || f.vmCPUs > maxCPUs:
		return fmt.Errorf("--vm-cpus %d is not between 1 and %d", f.vmCPUs, maxCPUs)
	case f.set.Changed("cpus") && !(f.cpus >= 0.01 && f.cpus <= maxCPUs): // NaN too
		return fmt.Errorf("--cpus %v is not between 0.01 and %d", f.cpus, maxCPUs)
	}
	if f.name != "" {
		if err := container.CheckID(f.name); err != nil {
			return fmt.Errorf("--name: %w", err)
		}
	}
	return nil
}

// spec returns what the flags say about the container.
func (f *runFlags) spec(args []string) (o container.SpecOptions, err error) {
	o = container.SpecOptions{
		Args: args, Dir: f.workdir, User: f.user, Hostname: f.hostname, Terminal: f.tty, ReadOnly: f.readOnly,
		CapAdd: f.capAdd, CapDrop: f.capDrop, Tmpfs: f.tmpfs, CPUs: f.cpus,
	}
	if f.set.Changed("entrypoint") { // "" takes the image's away
		o.Entrypoint = []string{f.entrypoint}
	}
	if o.Memory, err = size("--memory", f.memory); err != nil {
		return o, err
	}
	if o.ShmSize, err = size("--shm-size", f.shmSize); err != nil {
		return o, err
	}
	if o.Mounts, err = f.mounts(); err != nil {
		return o, err
	}
	if o.Env, err = f.environment(); err != nil {
		return o, err
	}
	if o.Ulimits, err = ulimits(f.ulimit); err != nil {
		return o, err
	}
	return o, o.Check()
}

// ulimits parses the limits of --ulimit, of which the last of a name counts.
func ulimits(all []string) (out []specs.POSIXRlimit, err error) {
	for _, u := range all {
		l, err := units.ParseUlimit(u)
		if err != nil {
			return nil, fmt.Errorf("--ulimit %s: want name=soft[:hard], such as nofile=1024:4096: %w", u, err)
		}
		r := specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(l.Name), Soft: rlimit(l.Soft), Hard: rlimit(l.Hard)}
		out = slices.DeleteFunc(out, func(o specs.POSIXRlimit) bool { return o.Type == r.Type })
		out = append(out, r)
	}
	return out, nil
}

// rlimit returns a limit as the kernel has it: −1 is no limit.
func rlimit(n int64) uint64 {
	if n < 0 {
		return math.MaxUint64
	}
	return uint64(n)
}

// vm returns the size of the VM in MiB and processors; 0 leaves it to the
// defaults.
func (f *runFlags) vm(memory int64) (mb, cpus int32, err error) {
	need := (memory+1<<20-1)>>20 + guestShare
	own, err := size("--vm-memory", f.vmMemory)
	if err != nil {
		return 0, 0, err
	}
	switch own >>= 20; {
	case f.vmMemory != "" && own == 0:
		return 0, 0, fmt.Errorf("--vm-memory %s is less than a megabyte", f.vmMemory)
	case own > math.MaxInt32 || need > math.MaxInt32:
		return 0, 0, fmt.Errorf("a VM of %d MB is more than any host has", max(own, need))
	case own > 0 && memory > 0 && own < need:
		return 0, 0, fmt.Errorf("--vm-memory %s is too small for --memory %s and the guest's own %d MB", f.vmMemory, f.memory, guestShare)
	case own > 0:
		mb = int32(own)
	case memory > 0:
		mb = int32(need)
	}
	cpus = int32(f.vmCPUs)
	if cpus == 0 {
		cpus = int32(math.Ceil(f.cpus))
	}
	return mb, cpus, nil
}

// environment returns the variables of --env-file and --env, the last of a
// name wins. A NAME that is not set here takes the image's away with --env, and
// does nothing in a file.
func (f *runFlags) environment() ([]string, error) {
	var env []string
	add := func(where, e string, file bool) error {
		name, _, set := strings.Cut(e, "=")
		if name == "" || strings.ContainsAny(name, " \t") || strings.ContainsRune(e, 0) {
			return fmt.Errorf("%s: %.80q is not NAME=value", where, e)
		}
		if !set {
			v, ok := os.LookupEnv(name)
			switch {
			case ok:
				e = name + "=" + v
			case file:
				return nil
			}
		}
		env = append(env, e)
		return nil
	}
	for _, name := range f.envFile {
		file, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("--env-file: %w", err)
		}
		defer file.Close()
		s := bufio.NewScanner(file)
		for n := 1; s.Scan(); n++ {
			text := s.Text()
			if n == 1 {
				text = strings.TrimPrefix(text, "\ufeff") // of an editor of Windows
			}
			line := strings.TrimLeft(text, " \t")
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			if err := add(fmt.Sprintf("--env-file %s, line %d", name, n), line, true); err != nil {
				return nil, err
			}
		}
		if err := s.Err(); err != nil {
			return nil, fmt.Errorf("--env-file %s: %w", name, err)
		}
	}
	for _, e := range f.env {
		if err := add("--env", e, false); err != nil {
			return nil, err
		}
	}
	return env, nil
}

// size parses a size such as 512m, in bytes; "" is 0.
func size(flag, s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := units.RAMInBytes(s)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%s %s: want a size such as 512m: %w", flag, s, err)
	case n < 0 || n == math.MaxInt64: // the number overflows
		return 0, fmt.Errorf("%s %s is more than any host has", flag, s)
	case n == 0:
		return 0, fmt.Errorf("%s %s: want more than nothing", flag, s)
	}
	return n, nil
}
