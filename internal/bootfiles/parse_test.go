package bootfiles

import (
	"bytes"
	"debug/elf"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestNormalise(t *testing.T) {
	for in, want := range map[string]string{
		"fs-ext4": "fs_ext4", "a[b-c]d-e": "a[b-c]d_e", "x]-y": "x]_y", "": "",
	} {
		if got := normalise(in); got != want {
			t.Errorf("normalise(%q): got %q, want %q", in, got, want)
		}
	}
}

func TestSoftBefore(t *testing.T) {
	for in, want := range map[string][]string{
		"pre: a-b c": {"a_b", "c"}, "post: x pre: a": {"a"}, "pre: a post: x y": {"a"}, "": nil, "a": nil,
	} {
		if got := softBefore(in); !slices.Equal(got, want) {
			t.Errorf("softBefore(%q): got %q, want %q", in, got, want)
		}
	}
}

func TestStripSignature(t *testing.T) {
	const marker = "~Module signature appended~\n"
	for name, c := range map[string]struct{ in, want string }{
		"none":     {"module", "module"},
		"signed":   {"module" + "sig" + "\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x03" + marker, "module"},
		"too long": {"m" + "\x00\x00\x02\x00\x00\x00\x00\x00\xff\xff\xff\xff" + marker, "m" + "\x00\x00\x02\x00\x00\x00\x00\x00\xff\xff\xff\xff" + marker},
		"short":    {"m" + marker, "m" + marker},
	} {
		if got := stripSignature([]byte(c.in)); string(got) != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

// TestCycle must end, although the kernel's build refuses such modules.
func TestCycle(t *testing.T) {
	k := &kernel{release: testRelease, modules: map[string]*module{
		"a": {name: "a", release: testRelease, path: "a.ko", deps: []string{"b"}},
		"b": {name: "b", release: testRelease, path: "b.ko", deps: []string{"a"}, soft: []string{"b", "c"}},
		"c": {name: "c", release: testRelease, path: "c.ko", deps: []string{"builtin"}},
	}, builtin: map[string]bool{"builtin": true}, table: []want{{name: "a", core: true}}}
	if got, want := newIndex(k).core, []string{"c", "b", "a"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestKinds is what the kinds of machines need: what two want is for any.
func TestKinds(t *testing.T) {
	modules := map[string]*module{}
	for name, deps := range map[string][]string{
		"virtio": nil, "vmbus": nil, "common": nil, "vsock": nil,
		"transport": {"virtio", "vsock", "common"}, "loopback": {"vsock", "common"}, "hvsock": {"vmbus", "vsock", "only"}, "only": nil,
	} {
		modules[name] = &module{name: name, release: testRelease, path: name + ".ko", deps: deps}
	}
	ix := newIndex(&kernel{release: testRelease, modules: modules, table: []want{
		{name: "virtio", on: virtio}, {name: "common", on: virtio}, {name: "transport", core: true, on: virtio}, {name: "hvsock", core: true, on: hyperV},
		{name: "vsock"}, {name: "loopback"}, {name: "vmbus", on: hyperV},
	}})
	want := map[string]string{"virtio": virtio, "transport": virtio, "vmbus": hyperV, "hvsock": hyperV, "only": hyperV}
	if !maps.Equal(ix.on, want) {
		t.Errorf("got %v, want %v", ix.on, want)
	}
}

// TestNoHyperV is a kernel that is good for all but Hyper-V.
func TestNoHyperV(t *testing.T) {
	in := testInput(t)
	files := testModules()
	delete(files, "kernel/drivers/hv_sock.ko")
	delete(files, "kernel/drivers/hv_utils.ko")
	writeFile(t, in.KernelPackage, makeDeb(t, "data.tar", packageFiles(files)))
	m := mustBuild(t, filepath.Join(t.TempDir(), "boot"), in)
	if want := []string{"does not boot on Hyper-V: the kernel has no hv_sock"}; !slices.Equal(m.Notes, want) {
		t.Errorf("notes: got %q, want %q", m.Notes, want)
	}
	if err := m.HyperV(); err == nil || !strings.Contains(err.Error(), "no hv_sock") {
		t.Errorf("got %v", err)
	}
	if want := []string{"hv_sock", "loop", "hv_utils"}; !slices.Equal(slices.Sorted(slices.Values(m.Missing)), slices.Sorted(slices.Values(want))) {
		t.Errorf("missing: got %q, want %q", m.Missing, want)
	}
}

func TestModuleNames(t *testing.T) {
	for name, want := range map[string]bool{
		"kernel/a/b-c.ko": true, "kernel/b.ko.xz": true, "kernel/b.ko.gz": true, "kernel/b.ko.zst": true,
		"kernel/b.ko.sig": false, "kernel/b.kobj": false, "updates/b.ko": false, "kernel/.ko": true, "modules.order": false,
	} {
		if got := isModule(name); got != want {
			t.Errorf("isModule(%q): got %v, want %v", name, got, want)
		}
	}
	if got, want := moduleName("kernel/a/b-c.ko.xz"), "b_c"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestGeometry(t *testing.T) {
	for size, want := range map[uint64]uint32{
		2 << 20:   60<<16 | 4<<8 | 17, // 4096 sectors
		16 << 20:  481<<16 | 4<<8 | 17,
		1 << 30:   2080<<16 | 16<<8 | 63,
		127 << 30: 65278<<16 | 16<<8 | 255,
		4 << 40:   65535<<16 | 16<<8 | 255,
	} {
		if got := geometry(size); got != want {
			t.Errorf("%d: got %d/%d/%d, want %d/%d/%d", size, got>>16, got>>8&255, got&255, want>>16, want>>8&255, want&255)
		}
	}
}

func FuzzPackage(f *testing.F) {
	f.Add(makeDeb(f, "data.tar.xz", packageFiles(map[string][]byte{"kernel/a.ko": makeModule(testRelease)})))
	f.Add(makeDeb(f, "data.tar", packageFiles(nil)))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := &debPackage{path: "p.deb", progress: func(string, int64, int64) {}}
		_ = d.read(t.Context(), bytes.NewReader(b), int64(len(b)), func(name string, size int64, r io.Reader) error {
			if strings.HasPrefix(name, "/") || size > 1<<20 {
				return io.ErrShortBuffer
			}
			_, err := readAll(r, size, 1<<20)
			return err
		})
	})
}

func FuzzModule(f *testing.F) {
	f.Add(makeModule(testRelease, "depends=a,b", "softdep=pre: c", "alias=d-*"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := readModule("kernel/m.ko", int64(len(b)), bytes.NewReader(b))
		if err != nil {
			return
		}
		k := &kernel{release: m.release, modules: map[string]*module{"m": m}, table: []want{{name: "m", core: true}}}
		for line := range strings.Lines(string(newIndex(k).encode())) {
			if f := strings.Split(line, " "); len(f) < 2 || slices.Contains(f, "") {
				t.Errorf("bad line %q", line)
			}
		}
	})
}

// FuzzTrim compares what the kernel and its trimmed copy load.
func FuzzTrim(f *testing.F) {
	f.Add(makeVmlinux())
	f.Fuzz(func(t *testing.T, b []byte) {
		small, err := trim(b)
		if err != nil {
			return
		}
		x, err := elf.NewFile(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		y, err := elf.NewFile(bytes.NewReader(small))
		if err != nil {
			t.Fatalf("the trimmed kernel: %v", err)
		}
		for i, p := range x.Progs {
			q := y.Progs[i]
			if q.Off+q.Filesz > uint64(len(small)) || q.Filesz > p.Filesz {
				t.Fatalf("segment %d: %+v", i, q.ProgHeader)
			}
			got, want := small[q.Off:q.Off+q.Filesz], b[p.Off:p.Off+p.Filesz]
			if !bytes.HasPrefix(want, got) || len(bytes.Trim(want[len(got):], "\x00")) > 0 {
				t.Errorf("segment %d loads something else", i)
			}
		}
	})
}

func FuzzImage(f *testing.F) {
	f.Add(testImage())
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := release(b); err == nil && (r == "" || strings.ContainsAny(r, "/ \x00\n")) {
			t.Errorf("release %q", r)
		}
		_, _ = payload(t.Context(), b)
	})
}
