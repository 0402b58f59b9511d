package bootfiles

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const testRelease = "6.1.0-test"

// segment is one program header of a synthetic ELF file and what it loads.
type segment struct {
	typ   elf.ProgType
	vaddr uint64
	data  []byte
	memsz uint64
	in    int // for a header that points into the data of segment in-1
	off   uint64
}

// makeELF returns an ELF file for x86-64 with the segments, or with a .modinfo
// section.
func makeELF(typ elf.Type, machine elf.Machine, segs []segment, modinfo string) []byte {
	le := binary.LittleEndian
	b := make([]byte, 64+56*len(segs)+8)
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], uint16(typ))
	le.PutUint16(b[18:], uint16(machine))
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[24:], 0x1000850) // entry
	le.PutUint64(b[32:], 64)        // phoff
	le.PutUint16(b[52:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], uint16(len(segs)))
	le.PutUint16(b[58:], 64)
	offs := make([]uint64, len(segs))
	for i, s := range segs {
		if s.in > 0 {
			offs[i] = offs[s.in-1] + s.off
		} else {
			offs[i] = uint64(len(b))
			b = append(b, s.data...)
		}
		putProg(b[64+56*i:], elf.ProgHeader{Type: s.typ, Vaddr: s.vaddr, Paddr: s.vaddr, Memsz: max(s.memsz, uint64(len(s.data))), Align: 0x1000}, offs[i], uint64(len(s.data)))
	}
	if modinfo == "" {
		return b
	}
	names := "\x00.modinfo\x00.shstrtab\x00"
	info, strs := uint64(len(b)), uint64(len(b)+len(modinfo))
	b = append(append(b, modinfo...), names...)
	le.PutUint64(b[40:], uint64(len(b))) // shoff
	le.PutUint16(b[60:], 3)
	le.PutUint16(b[62:], 2)
	section := func(name, typ uint32, off, size uint64) {
		s := make([]byte, 64)
		le.PutUint32(s, name)
		le.PutUint32(s[4:], typ)
		le.PutUint64(s[24:], off)
		le.PutUint64(s[32:], size)
		b = append(b, s...)
	}
	section(0, 0, 0, 0)
	section(1, uint32(elf.SHT_PROGBITS), info, uint64(len(modinfo)))
	section(10, uint32(elf.SHT_STRTAB), strs, uint64(len(names)))
	return b
}

// makeProgram returns a static program.
func makeProgram(text string) []byte {
	return makeELF(elf.ET_EXEC, elf.EM_X86_64, []segment{{typ: elf.PT_LOAD, vaddr: 0x400000, data: []byte(text)}}, "")
}

// makeModule returns a signed module.
func makeModule(release string, info ...string) []byte {
	text := strings.Join(append(info, "vermagic="+release+" SMP mod_unload "), "\x00") + "\x00"
	b := makeELF(elf.ET_REL, elf.EM_X86_64, nil, text)
	sig := bytes.Repeat([]byte{0x30}, 100)
	b = append(b, sig...)
	b = append(b, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 100)
	return append(b, "~Module signature appended~\n"...)
}

func pvhNote() []byte {
	return []byte("\x04\x00\x00\x00\x04\x00\x00\x00\x12\x00\x00\x00Xen\x00\x50\x08\x00\x01")
}

// makeVmlinux returns a kernel whose first segment ends in zeros and holds the
// PVH note.
func makeVmlinux() []byte {
	first := append(append([]byte("kernel text of no meaning, "), make([]byte, 5)...), pvhNote()...)
	first = append(first, make([]byte, 10000)...)
	return makeELF(elf.ET_EXEC, elf.EM_X86_64, []segment{
		{typ: elf.PT_LOAD, vaddr: 0x1000040, data: first, memsz: 20000},
		{typ: elf.PT_LOAD, vaddr: 0x2000123, data: []byte("data"), memsz: 8192},
		{typ: elf.PT_NOTE, vaddr: 0x1000060, data: pvhNote(), in: 1, off: 32},
	}, "rest of the file\x00")
}

// xzKernel packs data as the kernel's build does, behind the x86 filter. That
// leaves data without the bytes E8 and E9 as it is.
func xzKernel(data []byte) []byte {
	if bytes.IndexByte(data, 0xe8) >= 0 || bytes.IndexByte(data, 0xe9) >= 0 {
		panic("the x86 filter would change this")
	}
	return xzBlock(data, []byte{2, 1, 4, 0, 0x21, 1, 24, 0}) // x86, LZMA2 with a dictionary of 32 MiB
}

// xzStream packs data.
func xzStream(data []byte) []byte { return xzBlock(data, []byte{2, 0, 0x21, 1, 24, 0, 0, 0}) }

// xzBlock packs data without compressing it: xz's container around LZMA2's
// uncompressed chunks. A block's header is 12 bytes, the checksum included.
func xzBlock(data, head []byte) []byte {
	crc := func(b []byte) []byte { return binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(b)) }
	flags := []byte{0, 1} // CRC32
	out := append([]byte("\xfd7zXZ\x00"), flags...)
	out = append(out, crc(flags)...)

	head = append(head, crc(head)...)
	var lzma []byte
	for first := true; len(data) > 0; first = false {
		n := min(len(data), 1<<16)
		control := byte(2)
		if first {
			control = 1
		}
		lzma = append(lzma, control, byte((n-1)>>8), byte(n-1))
		lzma, data = append(lzma, data[:n]...), data[n:]
	}
	plain := unpackChunks(lzma)
	lzma = append(lzma, 0)
	unpadded := len(head) + len(lzma) + 4
	block := append(head, lzma...)
	block = append(block, make([]byte, -len(block)&3)...)
	out = append(append(out, block...), crc(plain)...)

	index := binary.AppendUvarint([]byte{0, 1}, uint64(unpadded))
	index = binary.AppendUvarint(index, uint64(len(plain)))
	index = append(index, make([]byte, -len(index)&3)...)
	index = append(index, crc(index)...)
	foot := binary.LittleEndian.AppendUint32(nil, uint32(len(index)/4-1))
	foot = append(foot, flags...)
	out = append(append(out, index...), crc(foot)...)
	return append(append(out, foot...), "YZ"...)
}

func unpackChunks(b []byte) []byte {
	var out []byte
	for len(b) > 0 {
		n := int(b[1])<<8 + int(b[2]) + 1
		out, b = append(out, b[3:3+n]...), b[3+n:]
	}
	return out
}

// makeBzImage packs a kernel as the kernel's build does.
func makeBzImage(packed []byte, unpackedSize int) []byte {
	const sects = 3
	b := make([]byte, (sects+1)*512)
	le := binary.LittleEndian
	b[offSetupSects] = sects
	le.PutUint16(b[offBootFlag:], 0xaa55)
	copy(b[offMagic:], "HdrS")
	le.PutUint16(b[offProtocol:], 0x20f)
	le.PutUint16(b[offKernelVersion:], 0x300)
	copy(b[0x500:], testRelease+" (nobody@nowhere) #1 SMP\x00")
	le.PutUint32(b[offPayload:], 16)
	le.PutUint32(b[offPayloadLength:], uint32(len(packed)+4))
	b = append(b, make([]byte, 16)...)
	b = append(b, packed...)
	b = le.AppendUint32(b, uint32(unpackedSize))
	return append(b, "behind the payload"...)
}

func testImage() []byte {
	v := makeVmlinux()
	return makeBzImage(xzKernel(v), len(v))
}

// modinfo has what is special about a test module; the others have nothing.
var modinfo = map[string][]string{
	"virtio_pci": {"depends=virtio_ring,virtio", "alias=pci:v00001AF4d*sv*sd*bc*sc*i*"},
	"sd_mod":     {"depends=scsi_mod,t10-pi"},
	"scsi_mod":   {"depends=scsi_common"},
	"libcrc32c":  {"softdep=pre: crc32c"},
	"erofs":      {"depends=libcrc32c", "alias=fs-erofs"},
	"ext4":       {"depends=jbd2,mbcache,unlisted-one", "softdep=pre: crypto-crc32c post: nothing", "alias=fs-ext4"},
	"crc32c_generic": {
		"alias=crc32c", "alias=crypto-crc32c", "alias=crypto-crc32c",
	},
	"crc32c_intel": {"alias=crc32c", "alias=crypto-crc32c"},

	"vmw_vsock_virtio_transport_common": {"depends=vsock"},
	"vmw_vsock_virtio_transport":        {"depends=virtio,virtio_ring,vsock,vmw_vsock_virtio_transport_common"},
	"vsock_loopback":                    {"depends=vsock,vmw_vsock_virtio_transport_common"},

	"hv_vmbus":   {"alias=acpi*:VMBUS:*"},
	"hv_sock":    {"depends=hv_vmbus,vsock", "alias=net-pf-40"},
	"hv_storvsc": {"depends=scsi_mod,hv_vmbus,scsi_transport_fc,scsi_common", "alias=vmbus:d96361baa104294db60572e2ffb1dc7f"},
	"nfit":       {"depends=libnvdimm", "alias=acpi*:ACPI0012:*"},
	"pci_hyperv": {"depends=pci-hyperv-intf,hv_vmbus"},
}

// modulePaths are the test kernel's files below its modules' folder.
func testModules() map[string][]byte {
	files := map[string][]byte{
		"modules.builtin":              []byte("kernel/fs/fuse.ko\nkernel/fs/fs-other.ko\n"),
		"kernel/lib/unlisted-one.ko":   makeModule(testRelease, "depends="),
		"kernel/lib/not_wanted.ko":     []byte("not even a module"),
		"kernel/drivers/README":        []byte("text"),
		"kernel/drivers/tun.ko.README": []byte("text"),
	}
	for _, w := range wanted {
		if w.name == "fuse" || w.name == "loop" {
			continue // one is built in, the other is missing
		}
		file := "kernel/drivers/" + w.name + ".ko"
		switch w.name {
		case "virtio_rng", "pci_hyperv", "pci_hyperv_intf":
			file = "kernel/drivers/" + strings.ReplaceAll(w.name, "_", "-") + ".ko"
		}
		mod := makeModule(testRelease, modinfo[w.name]...)
		if w.name == "tun" {
			file, mod = file+".xz", xzStream(mod)
		}
		files[file] = mod
	}
	return files
}

type tarFile struct {
	name string
	data []byte
}

// makeDeb returns a kernel package.
func makeDeb(t testing.TB, member string, files []tarFile) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: "./" + f.name, Mode: 0o644, Size: int64(len(f.data)), Typeflag: tar.TypeReg}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		w.Write(f.data)
	}
	w.Close()
	data := b.Bytes()
	if strings.HasSuffix(member, ".xz") {
		data = xzStream(data)
	}
	return arArchive(tarFile{"debian-binary", []byte("2.0\n")}, tarFile{"control.tar.xz", []byte("odd")}, tarFile{member, data})
}

func arArchive(members ...tarFile) []byte {
	out := []byte("!<arch>\n")
	for _, m := range members {
		out = fmt.Appendf(out, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", m.name, 1700000000, 0, 0, "100644", len(m.data))
		out = append(out, m.data...)
		out = append(out, make([]byte, len(m.data)&1)...)
	}
	return out
}

func packageFiles(modules map[string][]byte) []tarFile {
	files := []tarFile{
		{"boot/config-" + testRelease, []byte("CONFIG_64BIT=y\n")},
		{"boot/vmlinuz-" + testRelease, testImage()},
	}
	for _, name := range sortedKeys(modules) {
		files = append(files, tarFile{"lib/modules/" + testRelease + "/" + name, modules[name]})
	}
	return files
}

// testInput writes a kernel package, an agent and a runtime.
func testInput(t testing.TB) Input {
	t.Helper()
	dir := t.TempDir()
	return Input{
		KernelPackage: writeFile(t, filepath.Join(dir, "linux.deb"), makeDeb(t, "data.tar.xz", packageFiles(testModules()))),
		Agent:         writeFile(t, filepath.Join(dir, "gcs"), makeProgram("agent")),
		Runtime:       writeFile(t, filepath.Join(dir, "runc"), makeProgram("runtime")),
	}
}

// folderInput is testInput with a kernel file and a folder of modules.
func folderInput(t testing.TB) Input {
	t.Helper()
	in, dir := testInput(t), t.TempDir()
	in.KernelPackage = ""
	in.Kernel = writeFile(t, filepath.Join(dir, "vmlinuz"), testImage())
	in.Modules = filepath.Join(dir, "modules")
	for name, data := range testModules() {
		writeFile(t, filepath.Join(in.Modules, filepath.FromSlash(name)), data)
	}
	return in
}

func writeFile(t testing.TB, path string, data []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
