package container

import (
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestCommand(t *testing.T) {
	for _, c := range []struct {
		name            string
		entrypoint, cmd []string
		o               SpecOptions
		want            []string
		err             error
	}{
		{"image's", []string{"/e"}, []string{"a"}, SpecOptions{}, []string{"/e", "a"}, nil},
		{"arguments replace the command", []string{"/e"}, []string{"a"}, SpecOptions{Args: []string{"b", "c"}}, []string{"/e", "b", "c"}, nil},
		{"entry point drops the command", []string{"/e"}, []string{"a"}, SpecOptions{Entrypoint: []string{"/f"}}, []string{"/f"}, nil},
		{"both", []string{"/e"}, []string{"a"}, SpecOptions{Entrypoint: []string{"/f"}, Args: []string{"b"}}, []string{"/f", "b"}, nil},
		{"empty entry point", []string{"/e"}, []string{"a"}, SpecOptions{Entrypoint: []string{""}, Args: []string{"b"}}, []string{"b"}, nil},
		{"nothing", nil, nil, SpecOptions{}, nil, ErrNoCommand},
		{"empty name", nil, nil, SpecOptions{Args: []string{"", "x"}}, nil, ErrNoCommand},
	} {
		got, err := command(c.entrypoint, c.cmd, c.o)
		if !slices.Equal(got, c.want) || !errors.Is(err, c.err) {
			t.Errorf("%s: got %q, %v; want %q, %v", c.name, got, err, c.want, c.err)
		}
	}
}

func TestCapabilities(t *testing.T) {
	for _, c := range []struct {
		name      string
		add, drop []string
		want      func([]string) bool
	}{
		{"default", nil, nil, func(got []string) bool {
			return len(got) == len(defaultCapabilities) && slices.Contains(got, "CAP_CHOWN")
		}},
		{"none", nil, []string{"ALL"}, func(got []string) bool { return len(got) == 0 }},
		{"all", []string{"all"}, nil, func(got []string) bool { return len(got) == len(allCapabilities) }},
		{"all but one", []string{"ALL"}, []string{"SYS_ADMIN"}, func(got []string) bool {
			return len(got) == len(allCapabilities)-1 && !slices.Contains(got, "CAP_SYS_ADMIN")
		}},
		{"only one", []string{"net_admin"}, []string{"ALL"}, func(got []string) bool { return slices.Equal(got, []string{"CAP_NET_ADMIN"}) }},
		{"one less", nil, []string{"CAP_CHOWN"}, func(got []string) bool {
			return len(got) == len(defaultCapabilities)-1 && !slices.Contains(got, "CAP_CHOWN")
		}},
		{"named twice", []string{"CHOWN", "chown"}, nil, func(got []string) bool { return len(got) == len(defaultCapabilities) }},
	} {
		got, err := capabilities(c.add, c.drop)
		if err != nil || !c.want(got) || !slices.IsSorted(got) {
			t.Errorf("%s: got %q, %v", c.name, got, err)
		}
	}
	for _, bad := range []string{"", "CAP_", "fly", "CAP_CAP_CHOWN"} {
		if got, err := capabilities([]string{bad}, nil); err == nil || !strings.Contains(err.Error(), "not known") {
			t.Errorf("adding %q: got %q, %v", bad, got, err)
		}
	}
}

func TestNewSpec(t *testing.T) {
	img := &Image{config: v1.Config{Cmd: []string{"sh"}, Env: []string{"PATH=/bin", "A=image"}, WorkingDir: "/work", User: "app"}}
	s, err := NewSpec(img, SpecOptions{
		Env: []string{"A=mine", "B=2"}, Hostname: "box", Terminal: true, ReadOnly: true, Memory: 64 << 20, CPUs: 1.5,
		Tmpfs: []string{"/tmp:size=1m,exec", "/dev/shm:size=2m"}, Annotations: map[string]string{"k": "v"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"PATH=/bin", "TERM=xterm", "HOSTNAME=box", "A=mine", "B=2"}; !slices.Equal(s.Process.Env, want) {
		t.Errorf("environment %q, want %q", s.Process.Env, want)
	}
	if s.Process.Cwd != "/work" || !s.Process.Terminal || !s.Root.Readonly || s.Hostname != "box" {
		t.Errorf("got %+v, %+v", s.Process, s.Root)
	}
	if want := map[string]string{"k": "v", annotationUser: "app"}; !reflect.DeepEqual(s.Annotations, want) {
		t.Errorf("annotations %v, want %v", s.Annotations, want)
	}
	if *s.Linux.Resources.Memory.Limit != 64<<20 || *s.Linux.Resources.CPU.Quota != 150000 || *s.Linux.Resources.CPU.Period != 100000 {
		t.Errorf("resources %+v", s.Linux.Resources)
	}
	if s.Linux.Seccomp == nil || len(s.Linux.Seccomp.Syscalls) == 0 {
		t.Error("there is no seccomp profile")
	}
	tmp := s.Mounts[len(s.Mounts)-2]
	if tmp.Destination != "/tmp" || !slices.Contains(tmp.Options, "size=1m") || slices.Contains(tmp.Options, "noexec") || slices.Contains(tmp.Options, "exec") {
		t.Errorf("tmpfs %+v", tmp)
	}
	if n := len(slices.DeleteFunc(slices.Clone(s.Mounts), func(m specs.Mount) bool { return m.Destination != "/dev/shm" })); n != 1 {
		t.Errorf("%d mounts at /dev/shm", n)
	}
}

func TestNewSpecRefuses(t *testing.T) {
	img := &Image{config: v1.Config{Cmd: []string{"sh"}}}
	for want, o := range map[string]SpecOptions{
		"not an absolute path":  {Dir: "tmp"},
		"not known":             {CapAdd: []string{"X"}},
		"must be absolute":      {Tmpfs: []string{"tmp"}},
		"not the root":          {Tmpfs: []string{"/"}},
		"negative":              {ShmSize: -1},
		"below the least":       {Memory: 1},
		"between 0.01 and 1024": {CPUs: math.NaN()},
		"above hard limit":      {Ulimits: []specs.POSIXRlimit{{Type: "RLIMIT_CORE", Soft: 2, Hard: 1}}},
		"there twice":           {Ulimits: []specs.POSIXRlimit{{Type: "RLIMIT_CORE"}, {Type: "RLIMIT_CORE"}}},
		"longer than":           {Hostname: strings.Repeat("h", 65)},
		`option "foo=bar" is`:   {Tmpfs: []string{"/a:rw,foo=bar"}},
		`option "size=1x" is`:   {Tmpfs: []string{"/a:size=1x"}},
		`option "mode=999" is`:  {Tmpfs: []string{"/a:mode=999"}},
	} {
		if _, err := NewSpec(img, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want %q", o, err, want)
		}
		if err := o.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("checking %+v: got %v, want %q", o, err, want)
		}
	}
	if err := (SpecOptions{}).Check(); err != nil {
		t.Errorf("checking nothing: %v", err)
	}
	if err := (SpecOptions{Entrypoint: []string{""}}).Check(); !errors.Is(err, ErrNoCommand) {
		t.Errorf("no entry point and no command: got %v", err)
	}
}

func TestTmpfsOptions(t *testing.T) {
	for _, s := range []string{
		"/a", "/a:", "/a:rw,noexec,nosuid,nodev,size=65536k,mode=1777", "/a:exec,suid,dev,ro,uid=1,gid=2", "/a:size=50%,nr_inodes=1k,nr_blocks=4",
	} {
		if _, err := tmpfs(s); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
}

func TestMergeEnv(t *testing.T) {
	got := mergeEnv([]string{"A=1", "B=2", "C=3"}, []string{"B", "D", "A=4", "E=", "AB=5"})
	if want := []string{"A=4", "C=3", "E=", "AB=5"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCheckID(t *testing.T) {
	for _, id := range []string{"a", "9", "A_.-z", strings.Repeat("x", 128)} {
		if err := CheckID(id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	for _, id := range []string{"", ".", "..", "-a", "a/b", "../x", "ünï", "a b", "a\n", strings.Repeat("x", 129)} {
		if err := CheckID(id); err == nil {
			t.Errorf("%q is not refused", id)
		}
	}
}

func TestGuestSpecCopies(t *testing.T) {
	in := &specs.Spec{
		Process: &specs.Process{Args: []string{"x"}}, Hooks: &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/evil"}}},
		Windows: &specs.Windows{LayerFolders: []string{"c:"}, Network: &specs.WindowsNetwork{NetworkNamespace: "ns", EndpointList: []string{"e"}}},
	}
	out, err := guestSpec(in, "/r", "made")
	if err != nil {
		t.Fatal(err)
	}
	if out.Root.Path != "/r" || out.Hooks != nil || out.Linux == nil || out.Windows.LayerFolders != nil || out.Windows.Network.EndpointList != nil || out.Windows.Network.NetworkNamespace != "made" {
		t.Errorf("got %+v", out)
	}
	if in.Hooks == nil || in.Root != nil || len(in.Windows.LayerFolders) != 1 {
		t.Errorf("the caller's spec was changed: %+v", in)
	}
}
