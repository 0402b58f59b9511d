//go:build linux

package oci

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/byrevm/byre/internal/guest/storage"
)

// Annotations that the agent obeys.
const (
	AnnotationType       = "io.kubernetes.cri.container-type"
	AnnotationSandbox    = "io.kubernetes.cri.sandbox-id"
	AnnotationUser       = "io.microsoft.lcow.userstr"
	AnnotationPrivileged = "io.microsoft.virtualmachine.lcow.privileged"
	// AnnotationHosts, which is byre's own, has lines for the hosts file, each
	// an address and a name.
	AnnotationHosts = "io.github.byrevm.hosts"
)

// A Kind is one of the three kinds of containers.
type Kind int

// The kinds.
const (
	Standalone Kind = iota
	Sandbox
	Workload
)

// KindOf returns a specification's kind, and for a workload the id of its
// sandbox.
func KindOf(s *specs.Spec) (Kind, string, error) {
	t, ok := s.Annotations[AnnotationType]
	if !ok {
		return Standalone, "", nil
	}
	switch t {
	case "sandbox":
		return Sandbox, "", nil
	case "container":
		sid := s.Annotations[AnnotationSandbox]
		if sid == "" {
			return 0, "", fmt.Errorf("unsupported '%s': it is missing beside '%s'", AnnotationSandbox, AnnotationType)
		}
		return Workload, sid, CheckID(sid)
	}
	return 0, "", fmt.Errorf("unsupported '%s': '%s'", AnnotationType, t)
}

// maxID leaves room in file names for what is made of an id.
const maxID = 200

// CheckID tells whether id can name a container: letters, digits and _+-.
// after a letter or digit, which is what the runtime, cgroups and folders
// take.
func CheckID(id string) error {
	for i, c := range []byte(id) {
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || !strings.ContainsRune("_+-.", rune(c))) {
			return fmt.Errorf("container id %q has a %q", clip(id), c)
		}
	}
	if id == "" || len(id) > maxID {
		return fmt.Errorf("container id of %d bytes", len(id))
	}
	return nil
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}

// base is the folder of all containers' folders; a variable for tests.
var base = "/run/gcs/c"

// Dir returns the folder of a container.
func Dir(id string) string { return filepath.Join(base, id) }

// MountsDir returns the folder of a sandbox that holds its sandbox:// mounts.
func MountsDir(sandbox string) string { return filepath.Join(Dir(sandbox), "sandboxMounts") }

const sandboxScheme = "sandbox://"

// sandboxPath returns the path in the sandbox's folder that a source names,
// which is not allowed to leave it.
func sandboxPath(sandbox, source string) (string, error) {
	dir := MountsDir(sandbox)
	p := path.Join(dir, strings.TrimPrefix(source, sandboxScheme))
	if p != dir && !strings.HasPrefix(p, dir+"/") {
		return "", fmt.Errorf("mount source %q leaves the sandbox", clip(source))
	}
	return p, nil
}

// ErrSpec is wrapped by the errors of a specification that cannot be run.
var ErrSpec = errors.New("unusable OCI specification")

// Check refuses a specification that lacks what every container needs, and
// gives it the parts that it may lack.
func Check(s *specs.Spec) error {
	switch {
	case s.Process == nil:
		return fmt.Errorf("%w: no process", ErrSpec)
	case s.Root == nil:
		return fmt.Errorf("%w: no root", ErrSpec)
	}
	if err := storage.CheckPath(s.Root.Path); err != nil {
		return fmt.Errorf("%w: root: %w", ErrSpec, err)
	}
	if s.Linux == nil {
		s.Linux = &specs.Linux{Namespaces: []specs.LinuxNamespace{
			{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace},
		}}
	}
	// Without a mount namespace of its own a container would mount things in
	// the machine.
	if !slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.MountNamespace }) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.MountNamespace})
	}
	if s.Linux.Resources == nil {
		s.Linux.Resources = &specs.LinuxResources{}
	}
	return CheckProcess(s.Process)
}

// CheckProcess refuses a process that cannot be started, and gives it what it
// may lack.
func CheckProcess(p *specs.Process) error {
	switch {
	case len(p.Args) == 0 || p.Args[0] == "":
		return fmt.Errorf("%w: no command", ErrSpec)
	case p.Cwd == "":
		p.Cwd = "/"
	case !path.IsAbs(p.Cwd):
		return fmt.Errorf("%w: working directory %q is not absolute", ErrSpec, clip(p.Cwd))
	}
	if p.OOMScoreAdj == nil {
		// Else it would have the agent's.
		zero := 0
		p.OOMScoreAdj = &zero
	}
	return nil
}
