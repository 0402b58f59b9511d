package bootfiles

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// checkNothing fails when there is anything in dir.
func checkNothing(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("left behind: %s", e.Name())
	}
}

func TestBadInput(t *testing.T) {
	good := makeDeb(t, "data.tar.xz", packageFiles(testModules()))
	pkg := func(change func(m map[string][]byte)) func(*testing.T, *Input) {
		return func(t *testing.T, in *Input) {
			m := testModules()
			change(m)
			writeFile(t, in.KernelPackage, makeDeb(t, "data.tar.xz", packageFiles(m)))
		}
	}
	file := func(data []byte) func(*testing.T, *Input) {
		return func(t *testing.T, in *Input) { writeFile(t, in.KernelPackage, data) }
	}
	image := func(data []byte) func(*testing.T, *Input) {
		return func(t *testing.T, in *Input) {
			in.Kernel = writeFile(t, in.KernelPackage+".vmlinuz", data)
			in.KernelPackage = ""
		}
	}
	agent := func(data []byte) func(*testing.T, *Input) {
		return func(t *testing.T, in *Input) { writeFile(t, in.Agent, data) }
	}
	flip := func(b []byte, at int) []byte {
		b = bytes.Clone(b)
		b[at] ^= 0x55
		return b
	}
	vm := makeVmlinux()
	arm := makeELF(elf.ET_EXEC, elf.EM_AARCH64, []segment{{typ: elf.PT_LOAD, data: []byte("x")}}, "")
	interp := makeELF(elf.ET_EXEC, elf.EM_X86_64, []segment{{typ: elf.PT_INTERP, data: []byte("/lib64/ld-linux-x86-64.so.2\x00")}}, "")

	// Where nobody but the archive's checksum looks: in a module's signature.
	signature := bytes.LastIndex(good, bytes.Repeat([]byte{0x30}, 100))

	for name, c := range map[string]struct {
		change func(*testing.T, *Input)
		want   string
	}{
		"no kernel":      {func(_ *testing.T, in *Input) { in.KernelPackage = "" }, "no kernel is given"},
		"two kernels":    {func(_ *testing.T, in *Input) { in.Kernel = "x" }, "give one of them"},
		"modules only":   {func(_ *testing.T, in *Input) { in.KernelPackage, in.Modules = "", "x" }, "without a kernel"},
		"no package":     {func(t *testing.T, in *Input) { in.KernelPackage += ".not" }, "no such file"},
		"package folder": {func(t *testing.T, in *Input) { in.KernelPackage = t.TempDir() }, "not a regular file"},
		"no such kernel": {func(_ *testing.T, in *Input) { in.KernelPackage, in.Kernel = "", "/nowhere/vmlinuz" }, "/nowhere/vmlinuz: no such file"},
		"no such modules": {func(t *testing.T, in *Input) { image(testImage())(t, in); in.Modules = "/nowhere/modules" },
			"modules in /nowhere/modules: "},
		"empty modules": {func(t *testing.T, in *Input) { image(testImage())(t, in); in.Modules = t.TempDir() },
			"the kernel has no virtio_ring"},

		"text as package":   {file([]byte("not a package at all")), "not a Debian package"},
		"empty package":     {file(nil), "not a Debian package"},
		"no data":           {file(arArchive(tarFile{"debian-binary", []byte("2.0\n")})), "without a data.tar"},
		"truncated early":   {file(good[:100]), "truncated"},
		"truncated":         {file(good[:len(good)/2]), "the file is truncated"},
		"truncated by one":  {file(good[:len(good)-2]), "truncated"},
		"corrupt":           {file(flip(good, signature+50)), "data.tar.xz: xz: data is corrupt"},
		"corrupt at end":    {file(flip(good, len(good)-26)), "data.tar.xz: xz: data is"},
		"bad member header": {file(flip(good, 8+58)), "bad member header"},
		"zstd data": {func(t *testing.T, in *Input) {
			writeFile(t, in.KernelPackage, makeDeb(t, "data.tar.zst", nil))
		}, `compression ".zst" is not supported`},
		"no image": {func(t *testing.T, in *Input) {
			writeFile(t, in.KernelPackage, makeDeb(t, "data.tar", []tarFile{{"boot/config", nil}}))
		}, "has no kernel"},
		"two images": {func(t *testing.T, in *Input) {
			files := append(packageFiles(testModules()), tarFile{"boot/vmlinuz-2", testImage()})
			writeFile(t, in.KernelPackage, makeDeb(t, "data.tar", files))
		}, "more than one kernel"},

		"no core module":     {pkg(func(m map[string][]byte) { delete(m, "kernel/drivers/overlay.ko") }), "no overlay, neither as a module nor built in"},
		"no root module":     {pkg(func(m map[string][]byte) { delete(m, "kernel/drivers/ext4.ko") }), "no ext4, neither"},
		"missing dependency": {pkg(func(m map[string][]byte) { delete(m, "kernel/lib/unlisted-one.ko") }), "ext4 depends on unlisted_one"},
		"other kernel's module": {pkg(func(m map[string][]byte) { m["kernel/drivers/tun.ko.xz"] = xzStream(makeModule("5.10.0-other")) }),
			"the kernel is 6.1.0-test, but module tun is for 5.10.0-other"},
		"text as module":    {pkg(func(m map[string][]byte) { m["kernel/drivers/vsock.ko"] = []byte("text") }), "vsock.ko: not a kernel module"},
		"program as module": {pkg(func(m map[string][]byte) { m["kernel/drivers/vsock.ko"] = makeProgram("") }), "not a kernel module for x86-64"},
		"bad alias": {pkg(func(m map[string][]byte) { m["kernel/drivers/vsock.ko"] = makeModule(testRelease, "alias=two words") }),
			"bad .modinfo"},
		"long alias": {pkg(func(m map[string][]byte) {
			m["kernel/drivers/vsock.ko"] = makeModule(testRelease, "alias="+strings.Repeat("a", 2000))
		}), "line of the module index is over the limit"},
		"zstd module": {pkg(func(m map[string][]byte) {
			delete(m, "kernel/drivers/vsock.ko")
			m["kernel/drivers/vsock.ko.zst"] = []byte("x")
		}),
			`vsock.ko.zst: compression ".zst" is not supported`},
		"corrupt module": {pkg(func(m map[string][]byte) { m["kernel/drivers/tun.ko.xz"] = flip(m["kernel/drivers/tun.ko.xz"], 60) }),
			"tun.ko.xz: xz: data is corrupt"},

		"text as kernel":      {image([]byte(strings.Repeat("text ", 1000))), "not a bzImage"},
		"short kernel":        {image(testImage()[:500]), "not a bzImage"},
		"ELF as kernel":       {image(vm), "not a bzImage but an ELF file"},
		"old protocol":        {image(func() []byte { b := testImage(); b[offProtocol] = 7; return b }()), "boot protocol 2.07"},
		"no version":          {image(func() []byte { b := testImage(); b[offKernelVersion], b[offKernelVersion+1] = 0, 0; return b }()), "without a version text"},
		"bad version":         {image(func() []byte { b := testImage(); copy(b[0x500:], "../../etc x"); return b }()), `bad version text: "../../etc"`},
		"payload beyond file": {image(func() []byte { b := testImage(); b[offPayload+2] = 0xff; return b }()), "payload is not in the file"},
		"corrupt payload":     {image(flip(testImage(), 4*512+16+200)), "unpacking the kernel: xz: data is corrupt"},
		"payload too short":   {image(makeBzImage(xzKernel(vm), len(vm)+1)), "unpacking the kernel: got"},
		"payload too long":    {image(makeBzImage(xzKernel(vm), len(vm)-1)), "unpacking the kernel: got"},
		"huge payload":        {image(makeBzImage(xzKernel(vm), 1<<31)), "a damaged bzImage: a payload of 2147483648 bytes"},
		"payload of text":     {image(makeBzImage(xzKernel([]byte("text")), 4)), "the unpacked kernel is no ELF file"},
		"payload for arm64":   {image(makeBzImage(xzKernel(arm), len(arm))), "want ET_EXEC EM_X86_64"},

		"no agent":        {func(_ *testing.T, in *Input) { in.Agent = "" }, "no agent is given"},
		"no runtime":      {func(_ *testing.T, in *Input) { in.Runtime = "" }, "no OCI runtime is given"},
		"no such agent":   {func(_ *testing.T, in *Input) { in.Agent = "/nowhere/gcs" }, "agent: stat /nowhere/gcs: no such file"},
		"script":          {agent([]byte("#!/bin/sh\n")), "not an ELF program"},
		"empty agent":     {agent(nil), "not an ELF program"},
		"wrong arch":      {agent(arm), "built for EM_AARCH64, want EM_X86_64"},
		"not static":      {agent(interp), "not a static program"},
		"module as agent": {agent(makeModule(testRelease)), "not a program"},
	} {
		t.Run(name, func(t *testing.T) {
			in, parent := testInput(t), t.TempDir()
			c.change(t, &in)
			m, err := Build(t.Context(), filepath.Join(parent, "new", "boot"), in)
			if m != nil || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, %v, want an error with %q", m, err, c.want)
			}
			checkNothing(t, parent)
		})
	}
}

// TestCheckStaticGo looks at the test's own program: dynamic with cgo, static without.
func TestCheckStaticGo(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil || f.Machine != elf.EM_X86_64 {
		t.Skip("this test is not an x86-64 ELF program")
	}
	dynamic := f.Section(".interp") != nil
	if err := checkStatic(b); (err != nil) != dynamic {
		t.Errorf("a test program with interpreter %v: got %v", dynamic, err)
	}
}

// TestCancel ends the context at each step.
func TestCancel(t *testing.T) {
	var stages []string
	in := testInput(t)
	in.Progress = func(stage string, _, _ int64) { stages = append(stages, stage) }
	mustBuild(t, filepath.Join(t.TempDir(), "boot"), in)
	for n, stage := range stages {
		t.Run(stage, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			cause := errors.New("the user has gone")
			in, parent, step := in, t.TempDir(), 0
			in.Progress = func(string, int64, int64) {
				if step++; step == n+1 {
					cancel(cause)
				}
			}
			_, err := Build(ctx, filepath.Join(parent, "boot"), in)
			if !errors.Is(err, cause) {
				t.Errorf("got %v, want %v", err, cause)
			}
			checkNothing(t, parent)
		})
	}
	t.Run("before", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		parent := t.TempDir()
		if _, err := Build(ctx, filepath.Join(parent, "boot"), in); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
		checkNothing(t, parent)
	})
	t.Run("folder", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		parent := t.TempDir()
		if _, err := Build(ctx, filepath.Join(parent, "boot"), folderInput(t)); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
		checkNothing(t, parent)
	})
}

func TestCheck(t *testing.T) {
	for name, c := range map[string]struct {
		change func(t *testing.T, dir string)
		check  string // of Check; empty: it passes
		verify string
	}{
		"untouched":   {change: func(*testing.T, string) {}},
		"no file":     {func(_ *testing.T, dir string) { os.Remove(filepath.Join(dir, "initrd.img")) }, "initrd.img: no such file", ""},
		"no manifest": {func(_ *testing.T, dir string) { os.Remove(filepath.Join(dir, manifestName)) }, "manifest.json: no such file", ""},
		"short":       {func(t *testing.T, dir string) { os.Truncate(filepath.Join(dir, "kernel"), 10) }, "kernel has 10 bytes, want", ""},
		"a folder": {func(t *testing.T, dir string) {
			os.Remove(filepath.Join(dir, "kernel"))
			os.Mkdir(filepath.Join(dir, "kernel"), 0o755)
		}, "kernel is not a regular file", ""},
		"changed": {func(t *testing.T, dir string) {
			b := read(t, dir, "vmlinux")
			b[len(b)-1] ^= 1
			writeFile(t, filepath.Join(dir, "vmlinux"), b)
		}, "", "vmlinux has SHA-256"},
		"not JSON":    {func(t *testing.T, dir string) { writeFile(t, filepath.Join(dir, manifestName), []byte("{")) }, "unexpected end", ""},
		"next format": {func(t *testing.T, dir string) { writeFile(t, filepath.Join(dir, manifestName), []byte(`{"format":2}`)) }, "make the boot files again", ""},
		"empty":       {func(t *testing.T, dir string) { writeFile(t, filepath.Join(dir, manifestName), []byte(`{"format":1}`)) }, "names no files", ""},
		"odd name": {func(t *testing.T, dir string) {
			writeFile(t, filepath.Join(dir, manifestName), []byte(`{"format":1,"files":{"../../etc/passwd":{}}}`))
		}, "is not the name of a boot file", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "boot")
			mustBuild(t, dir, testInput(t))
			c.change(t, dir)
			_, err := Check(dir)
			if c.check == "" && err != nil || c.check != "" && (err == nil || !strings.Contains(err.Error(), c.check)) {
				t.Errorf("Check: got %v, want %q", err, c.check)
			}
			if name == "no manifest" && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Check: got %v, want %v", err, fs.ErrNotExist)
			}
			want := c.check + c.verify
			_, err = Verify(t.Context(), dir)
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("Verify: got %v, want %q", err, want)
			}
		})
	}
	t.Run("cancelled", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "boot")
		mustBuild(t, dir, testInput(t))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := Verify(ctx, dir); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
	})
}
