//go:build linux

package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/guest/network"
)

func TestCheckID(t *testing.T) {
	for _, id := range []string{"c1", "0a", "A_b+c-d.e", "b1f0e6a4-7a5e-4f5b-9d63-5f0f0b0c7c11", strings.Repeat("x", maxID)} {
		if err := CheckID(id); err != nil {
			t.Errorf("%s: got %v, want nil", id, err)
		}
	}
	for _, id := range []string{"", ".", "..", "-x", "a/b", "a b", "a\x00", "é", "a@b", strings.Repeat("x", maxID+1)} {
		if CheckID(id) == nil {
			t.Errorf("%.20q is accepted", id)
		}
	}
}

func TestKindOf(t *testing.T) {
	for _, c := range []struct {
		annotations map[string]string
		want        string
	}{
		{nil, "0  <nil>"},
		{map[string]string{AnnotationType: "sandbox"}, "1  <nil>"},
		{map[string]string{AnnotationType: "container", AnnotationSandbox: "pod"}, "2 pod <nil>"},
		{map[string]string{AnnotationType: "container"}, "error"},
		{map[string]string{AnnotationType: "container", AnnotationSandbox: "../x"}, "error"},
		{map[string]string{AnnotationType: "other"}, "error"},
	} {
		k, id, err := KindOf(&specs.Spec{Annotations: c.annotations})
		got := fmt.Sprint(int(k), " ", id, " ", err)
		if err != nil {
			got = "error"
		}
		if got != c.want {
			t.Errorf("%v: got %s, want %s", c.annotations, got, c.want)
		}
	}
}

func TestSandboxPath(t *testing.T) {
	for source, want := range map[string]string{
		"sandbox://a/b": "/run/gcs/c/pod/sandboxMounts/a/b", "sandbox:///a": "/run/gcs/c/pod/sandboxMounts/a",
		"sandbox://a/../b": "/run/gcs/c/pod/sandboxMounts/b", "sandbox://": "/run/gcs/c/pod/sandboxMounts",
		"sandbox://..": "", "sandbox://a/../../../x": "",
	} {
		got, err := sandboxPath("pod", source)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%s: got %s, %v; want %s", source, got, err, want)
		}
	}
}

func TestCheck(t *testing.T) {
	good := func() *specs.Spec {
		return &specs.Spec{Root: &specs.Root{Path: "/run/x/rootfs"}, Process: &specs.Process{Args: []string{"true"}}}
	}
	s := good()
	if err := Check(s); err != nil {
		t.Fatal(err)
	}
	if s.Process.Cwd != "/" || *s.Process.OOMScoreAdj != 0 || s.Linux.Resources == nil {
		t.Errorf("what was missing: got %+v", s)
	}
	if !slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.MountNamespace }) {
		t.Error("no mount namespace")
	}
	for name, spoil := range map[string]func(*specs.Spec){
		"no process":   func(s *specs.Spec) { s.Process = nil },
		"no root":      func(s *specs.Spec) { s.Root = nil },
		"root outside": func(s *specs.Spec) { s.Root.Path = "/etc" },
		"no command":   func(s *specs.Spec) { s.Process.Args = nil },
		"empty":        func(s *specs.Spec) { s.Process.Args = []string{""} },
		"relative cwd": func(s *specs.Spec) { s.Process.Cwd = "x" },
	} {
		s := good()
		spoil(s)
		if err := Check(s); !errors.Is(err, ErrSpec) {
			t.Errorf("%s: got %v, want %v", name, err, ErrSpec)
		}
	}
}

func rootfs(t *testing.T, passwd, group string) string {
	t.Helper()
	root := t.TempDir()
	if err := errors.Join(
		os.Mkdir(root+"/etc", 0o755),
		os.WriteFile(root+"/etc/passwd", []byte(passwd), 0o644),
		os.WriteFile(root+"/etc/group", []byte(group), 0o644),
	); err != nil {
		t.Fatal(err)
	}
	return root
}

func TestSetUser(t *testing.T) {
	root := rootfs(t, "root:x:0:0::/root:/bin/sh\nbob:x:1000:100::/:\ntwin:x:1:1::/:\ntwin:x:2:2::/:\n", "root:x:0:\nusers:x:100:\nextra:x:50:bob\n")
	for name, want := range map[string]string{
		"bob": "1000 100 [50]", "1000": "1000 100 [50]", "bob:extra": "1000 50 []", "7": "7 0 []", "7:8": "7 8 []", "0:users": "0 100 []",
		"twin": "error", "nobody": "error", "bob:none": "error", "-1": "error", "99999999999": "error",
	} {
		var p specs.Process
		err := SetUser(&p, root, name)
		got := fmt.Sprint(p.User.UID, " ", p.User.GID, " ", p.User.AdditionalGids)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%s: got %s (%v), want %s", name, got, err, want)
		}
	}
}

// A container's files are never followed out of it, and never held up by.
func TestHostileUsers(t *testing.T) {
	root := rootfs(t, "", "")
	outside := t.TempDir() + "/passwd"
	if err := os.WriteFile(outside, []byte("bob:x:0:0::/:\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	name := root + "/etc/passwd"
	for what, make := range map[string]func() error{
		"link out":       func() error { return os.Symlink(outside, name) },
		"relative link":  func() error { return os.Symlink("../../../../../../../.."+outside, name) },
		"proc link":      func() error { return os.Symlink("/proc/self/root"+outside, name) },
		"pipe":           func() error { return unix.Mkfifo(name, 0o644) },
		"folder":         func() error { return os.Mkdir(name, 0o755) },
		"larger than it": func() error { return errors.Join(os.WriteFile(name, nil, 0o644), os.Truncate(name, maxUsers+1)) },
		"missing":        func() error { return nil },
	} {
		t.Run(what, func(t *testing.T) {
			if err := os.RemoveAll(name); err != nil {
				t.Fatal(err)
			}
			if err := make(); err != nil {
				t.Fatal(err)
			}
			var p specs.Process
			if err := SetUser(&p, root, "bob"); err == nil {
				t.Errorf("got user %d, want an error", p.User.UID)
			}
		})
	}
	// A link within the container is good.
	os.RemoveAll(name)
	if err := errors.Join(os.WriteFile(root+"/real", []byte("bob:x:5:5::/:\n"), 0o644), os.Symlink("/real", name)); err != nil {
		t.Fatal(err)
	}
	var p specs.Process
	if err := SetUser(&p, root, "bob"); err != nil || p.User.UID != 5 {
		t.Errorf("got %d, %v; want 5", p.User.UID, err)
	}
}

func TestDevices(t *testing.T) {
	s := &specs.Spec{Linux: &specs.Linux{
		Devices:   []specs.LinuxDevice{{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229}},
		Resources: &specs.LinuxResources{},
	}}
	if err := setDevices(s); err != nil {
		t.Fatal(err)
	}
	b, _ := json.Marshal(s.Linux.Resources.Devices)
	if got, want := string(b), `[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":10,"minor":229,"access":"rwm"}]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	// The host's own rules stay.
	if err := setDevices(s); err != nil || len(s.Linux.Resources.Devices) != 2 {
		t.Errorf("got %v, %v", s.Linux.Resources.Devices, err)
	}
	s.Annotations = map[string]string{AnnotationPrivileged: "true"}
	if err := setDevices(s); err != nil {
		t.Fatal(err)
	}
	if r := s.Linux.Resources.Devices; len(r) != 1 || !r[0].Allow {
		t.Errorf("privileged: got %v", r)
	}
	for _, d := range s.Linux.Devices {
		if d.Path == "/dev/null" || strings.HasPrefix(d.Path, "/dev/pts/") {
			t.Errorf("%s is the container's own", d.Path)
		}
	}
}

// inNamespace moves the containers' folder to a tmpfs of the test's own.
func inNamespace(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	runtime.LockOSThread() // not unlocked: the thread is of no other use
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Skipf("no mount namespace: %v", err)
	}
	if err := errors.Join(unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""), unix.Mount("tmpfs", "/run", "tmpfs", 0, "")); err != nil {
		t.Fatal(err)
	}
}

func spec(t *testing.T) *specs.Spec {
	root := rootfs(t, "", "")
	return &specs.Spec{Root: &specs.Root{Path: root}, Process: &specs.Process{Args: []string{"true"}}, Linux: &specs.Linux{}}
}

func options(id string) Options {
	return Options{ID: id, Hostname: "machine", DNS: func(ns string) (network.DNS, error) {
		if ns != "net" {
			return network.DNS{}, network.ErrNoNamespace
		}
		return network.DNS{Search: []string{"a.b"}, Servers: []string{"10.0.0.1"}}, nil
	}}
}

func content(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

func TestStandalone(t *testing.T) {
	inNamespace(t)
	s := spec(t)
	s.Root.Readonly = true
	s.Mounts = []specs.Mount{{Destination: "/etc/hosts", Source: "/x"}}
	s.Windows = &specs.Windows{Network: &specs.WindowsNetwork{NetworkNamespace: "net"}}
	p, err := Prepare(s, options("c1"))
	if err != nil {
		t.Fatal(err)
	}
	if got := content(t, "/run/gcs/c/c1/hostname"); got != "machine\n" {
		t.Errorf("got %q", got)
	}
	if got := content(t, "/run/gcs/c/c1/resolv.conf"); got != "search a.b\nnameserver 10.0.0.1\n" {
		t.Errorf("got %q", got)
	}
	var targets []string
	for _, m := range s.Mounts {
		targets = append(targets, m.Destination+" "+strings.Join(m.Options, ","))
	}
	if got, want := fmt.Sprint(targets), "[/etc/hosts  /etc/hostname bind,ro /etc/resolv.conf bind,ro]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if s.Windows != nil || s.Linux.CgroupsPath != "/containers/c1" {
		t.Errorf("got %+v", s)
	}
	if err := errors.Join(p.Undo(), p.Undo()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/run/gcs/c/c1"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is left: %v", err)
	}
}

func TestPod(t *testing.T) {
	inNamespace(t)
	s := spec(t)
	s.Hostname = "pod-host"
	s.Annotations = map[string]string{AnnotationType: "sandbox"}
	pod, err := Prepare(s, options("pod"))
	if err != nil {
		t.Fatal(err)
	}
	w := spec(t)
	w.Annotations = map[string]string{AnnotationType: "container", AnnotationSandbox: "pod"}
	w.Mounts = []specs.Mount{{Destination: "/v", Source: "sandbox://a/b"}}
	p, err := Prepare(w, options("w"))
	if err != nil {
		t.Fatal(err)
	}
	// What the container writes there is in the sandbox's folder.
	if err := os.WriteFile(w.Mounts[0].Source+"/f", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	content(t, "/run/gcs/c/pod/sandboxMounts/a/b/f")
	if got, want := w.Mounts[1].Source, "/run/gcs/c/pod/hostname"; got != want || content(t, got) != "pod-host\n" {
		t.Errorf("got %s, want %s", got, want)
	}
	// A container cannot redirect what another one mounts.
	if err := os.Symlink("/etc", "/run/gcs/c/pod/sandboxMounts/evil"); err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{"sandbox://evil", "sandbox://evil/x", "sandbox://../x"} {
		e := spec(t)
		e.Annotations = w.Annotations
		e.Mounts = []specs.Mount{{Destination: "/v", Source: source}, {Destination: "/w", Source: "sandbox://ok"}}
		if _, err := Prepare(e, options("e")); err == nil {
			t.Errorf("%s was accepted", source)
		}
		if left, _ := filepath.Glob(pinned + "/e"); len(left) > 0 {
			t.Errorf("%v is left", left)
		}
	}
	e := spec(t)
	e.Annotations, e.Hostname = w.Annotations, "other"
	if _, err := Prepare(e, options("e")); !errors.Is(err, ErrSpec) {
		t.Errorf("a workload's own hostname: got %v, want %v", err, ErrSpec)
	}
	if err := errors.Join(p.Undo(), pod.Undo()); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile("/proc/thread-self/mountinfo"); strings.Contains(string(b), "/run/") {
		t.Errorf("mounts are left: %s", b)
	}
	e = spec(t)
	e.Annotations = map[string]string{AnnotationType: "sandbox"}
	e.Windows = &specs.Windows{Network: &specs.WindowsNetwork{NetworkNamespace: "unknown"}}
	if _, err := Prepare(e, options("pod2")); !errors.Is(err, network.ErrNoNamespace) {
		t.Errorf("got %v, want %v", err, network.ErrNoNamespace)
	}
}
