package bootfiles

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"flag"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/Microsoft/hcsshim/ext4/tar2ext4"
	"github.com/cavaliergopher/cpio"
)

var update = flag.Bool("update", false, "write the golden files")

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func mustBuild(t *testing.T, dir string, in Input) *Manifest {
	t.Helper()
	m, err := Build(t.Context(), dir, in)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestBuild(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "boot")
	in := testInput(t)
	var stages []string
	in.Progress = func(stage string, done, total int64) {
		if done > total {
			t.Errorf("%s: %d of %d", stage, done, total)
		}
		if !slices.Contains(stages, stage) {
			stages = append(stages, stage)
		}
	}
	m := mustBuild(t, dir, in)
	if want := []string{"reading linux.deb", "writing kernel", "writing vmlinux", "writing initrd.img", "writing rootfs.vhd", "writing modules.img"}; !slices.Equal(stages, want) {
		t.Errorf("stages: got %q, want %q", stages, want)
	}
	if m.Kernel != testRelease {
		t.Errorf("kernel: got %q, want %q", m.Kernel, testRelease)
	}
	if want := []string{"loop"}; !slices.Equal(m.Missing, want) {
		t.Errorf("missing: got %q, want %q", m.Missing, want)
	}
	if m.Places != 0 {
		t.Errorf("places of an agent that does not say: %d", m.Places)
	}
	if want := []string{"agent", "package", "runtime"}; !slices.Equal(sortedKeys(m.Inputs), want) {
		t.Errorf("inputs: got %q, want %q", sortedKeys(m.Inputs), want)
	}
	var names []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
		if fi, err := e.Info(); err != nil || fi.Mode() != 0o644 {
			t.Errorf("%s: mode %v, %v", e.Name(), fi.Mode(), err)
		}
	}
	if !slices.Equal(names, fileNames) {
		t.Errorf("files: got %q, want %q", names, fileNames)
	}
	got, err := Verify(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(got.Files, m.Files) || len(got.Files) != len(fileNames)-1 {
		t.Errorf("manifest: got %v, want %v", got.Files, m.Files)
	}
	checkKernel(t, dir)
	checkInitrd(t, dir)
	checkModulesImage(t, dir)
	checkVHD(t, dir)
}

func checkKernel(t *testing.T, dir string) {
	if got := read(t, dir, "kernel"); !bytes.Equal(got, testImage()) {
		t.Error("kernel is not the bzImage")
	}
	raw, small := makeVmlinux(), read(t, dir, "vmlinux")
	if len(small) >= len(raw) {
		t.Errorf("vmlinux has %d bytes, no fewer than the %d unpacked", len(small), len(raw))
	}
	a, err := elf.NewFile(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	b, err := elf.NewFile(bytes.NewReader(small))
	if err != nil {
		t.Fatal(err)
	}
	if a.Entry != b.Entry || len(a.Progs) != len(b.Progs) || len(b.Sections) != 0 {
		t.Fatalf("got entry %#x, %d segments, %d sections, want %#x, %d, 0", b.Entry, len(b.Progs), len(b.Sections), a.Entry, len(a.Progs))
	}
	for i := range a.Progs {
		p, q := a.Progs[i], b.Progs[i]
		if p.Type != q.Type || p.Vaddr != q.Vaddr || p.Paddr != q.Paddr || p.Memsz != q.Memsz || q.Filesz > p.Filesz {
			t.Errorf("segment %d: got %+v, want %+v", i, q.ProgHeader, p.ProgHeader)
		}
		if q.Type == elf.PT_LOAD && q.Off%page != q.Vaddr%page {
			t.Errorf("segment %d: offset %#x and address %#x differ modulo a page", i, q.Off, q.Vaddr)
		}
		if got, want := loaded(t, q), loaded(t, p); !bytes.Equal(got, want) {
			t.Errorf("segment %d: loads %q, want %q", i, got, want)
		}
	}
}

// loaded is what a loader puts into memory.
func loaded(t *testing.T, p *elf.Prog) []byte {
	b, err := io.ReadAll(p.Open())
	if err != nil {
		t.Fatal(err)
	}
	return append(b, make([]byte, p.Memsz-uint64(len(b)))...)
}

// readCPIO reads an archive with a reader that is not ours.
func readCPIO(t *testing.T, path string) (order []string, files map[string][]byte, headers map[string]*cpio.Header) {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	files, headers = map[string][]byte{}, map[string]*cpio.Header{}
	for r := cpio.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return order, files, headers
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		order, files[h.Name], headers[h.Name] = append(order, h.Name), b, h
	}
}

func checkInitrd(t *testing.T, dir string) {
	order, files, headers := readCPIO(t, filepath.Join(dir, "initrd.img"))
	if !slices.IsSorted(order) {
		t.Error("the archive is not sorted")
	}
	for _, name := range order {
		if d := filepath.Dir(name); d != "." && headers[d] == nil {
			t.Errorf("%s comes before its folder", name)
		}
		if h := headers[name]; h.ModTime.Unix() != 0 || h.Uid != 0 || h.Guid != 0 {
			t.Errorf("%s: time %v, owner %d:%d", name, h.ModTime, h.Uid, h.Guid)
		}
	}
	for name, want := range map[string]string{
		"bin/gcs": string(makeProgram("agent")), "bin/runc": string(makeProgram("runtime")),
		"etc/group": "root:x:0:\nnogroup:x:65534:\n",
		"lib/modules/6.1.0-test/kernel/drivers/tun.ko": string(stripSignature(makeModule(testRelease))),
	} {
		if got := files[name]; string(got) != want {
			t.Errorf("%s: got %d bytes, want %d", name, len(got), len(want))
		}
	}
	for name, want := range map[string]string{"init": "/bin/gcs", "bin/vsockexec": "/bin/gcs", "bin/modprobe": "/bin/gcs", "var/run": "/run"} {
		if got := headers[name]; got == nil || got.Linkname != want {
			t.Errorf("%s: got %+v, want a link to %s", name, got, want)
		}
	}
	for name, want := range map[string]cpio.FileMode{
		"dev": cpio.TypeDir | 0o755, "proc": cpio.TypeDir | 0o555, "sys": cpio.TypeDir | 0o555, "run": cpio.TypeDir | 0o755,
		"tmp": cpio.TypeDir | 0o1777, "bin/gcs": cpio.TypeReg | 0o755, "dev/console": cpio.TypeChar | 0o600,
	} {
		if got := headers[name]; got == nil || got.Mode != want {
			t.Errorf("%s: got %+v, want mode %v", name, got, want)
		}
	}
	if headers["sbin/modprobe"] != nil || headers["lib/modules/6.1.0-test/kernel/lib/not_wanted.ko"] != nil {
		t.Error("the archive has what it should not have")
	}
	golden(t, "modules.byre", files[indexPath])
}

func checkModulesImage(t *testing.T, dir string) {
	order, files, headers := readCPIO(t, filepath.Join(dir, "modules.img"))
	if got := headers["init"]; got == nil || got.Mode != cpio.TypeReg|0o755 || !bytes.Equal(files["init"], makeProgram("agent")) {
		t.Errorf("init: got %+v, want the agent", got)
	}
	golden(t, "modules.byre.root", files[indexPath])
	named := map[string]bool{}
	for line := range strings.Lines(string(files[indexPath])) {
		if f := strings.Fields(line); f[0] == "mod" {
			named[strings.TrimPrefix(f[2], "/")] = true
		}
	}
	for _, name := range order {
		if strings.HasSuffix(name, ".ko") && !named[name] {
			t.Errorf("%s is in the archive, but not in the index", name)
		}
		delete(named, name)
	}
	if len(named) > 0 {
		t.Errorf("in the index, but not in the archive: %q", sortedKeys(named))
	}
}

func checkVHD(t *testing.T, dir string) {
	b := read(t, dir, "rootfs.vhd")
	size := len(b) - 512
	if size <= 0 || size%vhdAlign != 0 {
		t.Fatalf("rootfs.vhd has a payload of %d bytes", size)
	}
	foot := b[size:]
	if string(foot[:8]) != "conectix" || binary.BigEndian.Uint64(foot[48:]) != uint64(size) || binary.BigEndian.Uint32(foot[60:]) != 2 {
		t.Errorf("bad footer %x", foot[:80])
	}
	sum := ^uint32(0)
	for i, c := range foot {
		if i < 64 || i >= 68 {
			sum -= uint32(c)
		}
	}
	if got := binary.BigEndian.Uint32(foot[64:]); got != sum {
		t.Errorf("footer's checksum: got %#x, want %#x", got, sum)
	}
	if _, err := tar2ext4.ReadExt4SuperBlockReadSeeker(bytes.NewReader(b)); err != nil {
		t.Error(err)
	}
	debugfs, err := exec.LookPath("debugfs")
	if err != nil {
		t.Log("no debugfs here: the file system's files are not compared")
		return
	}
	_, files, headers := readCPIO(t, filepath.Join(dir, "initrd.img"))
	for name, h := range headers {
		if h.Mode&cpio.ModeType != cpio.TypeReg {
			continue
		}
		out, err := exec.Command(debugfs, "-R", "cat /"+name, filepath.Join(dir, "rootfs.vhd")).Output()
		if err != nil || !bytes.Equal(out, files[name]) {
			t.Errorf("%s in the file system: %v, %d bytes, want %d", name, err, len(out), len(files[name]))
		}
	}
	out, err := exec.Command(debugfs, "-R", "stat /init", filepath.Join(dir, "rootfs.vhd")).Output()
	if err != nil || !strings.Contains(string(out), `Fast link dest: "/bin/gcs"`) {
		t.Errorf("init in the file system: %v\n%s", err, out)
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		writeFile(t, path, got)
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPlacesOf(t *testing.T) {
	for agent, want := range map[string]int{
		"":                       0,
		"\x00byre-places:7;\x00": 7,
		"byre-places:":           0,
		"byre-places:1234567;":   0,
		"xbyre-places:12;y":      12,
	} {
		if got := placesOf(makeProgram(agent)); got != want {
			t.Errorf("%q: got %d, want %d", agent, got, want)
		}
	}
}

func TestReproducible(t *testing.T) {
	a, b, c := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b"), filepath.Join(t.TempDir(), "c")
	mustBuild(t, a, testInput(t))
	mustBuild(t, b, testInput(t))
	mustBuild(t, c, folderInput(t))
	for _, name := range fileNames {
		if !bytes.Equal(read(t, a, name), read(t, b, name)) {
			t.Errorf("%s differs between two runs", name)
		}
		if name != manifestName && !bytes.Equal(read(t, a, name), read(t, c, name)) {
			t.Errorf("%s differs between the package and the folder", name)
		}
	}
}

// TestKernelAlone is a kernel that has everything built in.
func TestKernelAlone(t *testing.T) {
	in := folderInput(t)
	in.Modules = ""
	dir := filepath.Join(t.TempDir(), "boot")
	m := mustBuild(t, dir, in)
	if want := []string{"initrd.img", "kernel", "rootfs.vhd", "vmlinux"}; !slices.Equal(sortedKeys(m.Files), want) {
		t.Errorf("files: got %q, want %q", sortedKeys(m.Files), want)
	}
	_, files, _ := readCPIO(t, filepath.Join(dir, "initrd.img"))
	if got, want := string(files[indexPath]), "byre-modules 1 -\n"; got != want {
		t.Errorf("index: got %q, want %q", got, want)
	}
	if _, err := Verify(t.Context(), dir); err != nil {
		t.Error(err)
	}
}

// TestInitrdOnly leaves the disk out, and takes the place of a folder with one.
func TestInitrdOnly(t *testing.T) {
	in, dir := testInput(t), filepath.Join(t.TempDir(), "boot")
	whole := mustBuild(t, dir, in)
	in.InitrdOnly = true
	m := mustBuild(t, dir, in)
	if want := []string{"initrd.img", "kernel", "vmlinux"}; !slices.Equal(sortedKeys(m.Files), want) {
		t.Errorf("files: got %q, want %q", sortedKeys(m.Files), want)
	}
	if err := whole.HyperV(); err == nil || !strings.Contains(err.Error(), "--initrd-only") {
		t.Errorf("with a disk: got %v", err)
	}
	if err := m.HyperV(); err != nil {
		t.Errorf("without: got %v, want nil", err)
	}
	if m.Files["initrd.img"] != whole.Files["initrd.img"] {
		t.Error("initrd.img differs")
	}
	if _, err := Verify(t.Context(), dir); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "rootfs.vhd")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("rootfs.vhd: got %v, want %v", err, fs.ErrNotExist)
	}
}

// TestNoVmlinux are good kernels that cannot be booted by PVH.
func TestNoVmlinux(t *testing.T) {
	plain := makeELF(elf.ET_EXEC, elf.EM_X86_64, []segment{{typ: elf.PT_LOAD, vaddr: 0x1000000, data: []byte("text")}}, "")
	for name, c := range map[string]struct {
		image []byte
		note  string
	}{
		"zstd":    {makeBzImage([]byte("\x28\xb5\x2f\xfd and more"), 100), "compressed with zstd"},
		"unknown": {makeBzImage([]byte("no compression"), 100), "compression is not known"},
		"no PVH":  {makeBzImage(xzStream(plain), len(plain)), "no PVH entry"},
	} {
		t.Run(name, func(t *testing.T) {
			in := folderInput(t)
			writeFile(t, in.Kernel, c.image)
			dir := filepath.Join(t.TempDir(), "boot")
			m := mustBuild(t, dir, in)
			if len(m.Notes) != 1 || !strings.Contains(m.Notes[0], c.note) {
				t.Errorf("notes: got %q, want one with %q", m.Notes, c.note)
			}
			if _, ok := m.Files["vmlinux"]; ok {
				t.Error("there is a vmlinux")
			}
			if _, err := Verify(t.Context(), dir); err != nil {
				t.Error(err)
			}
		})
	}
}
