package qemu

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/byrevm/byre/hcs"
)

// vhdFooter makes the footer of a VHD.
func vhdFooter(size uint64, kind uint32) []byte {
	f := make([]byte, sector)
	copy(f, vhdCookie)
	binary.BigEndian.PutUint32(f[12:], 0x00010000)
	binary.BigEndian.PutUint64(f[40:], size)
	binary.BigEndian.PutUint64(f[48:], size)
	binary.BigEndian.PutUint32(f[60:], kind)
	var sum uint32
	for _, b := range f {
		sum += uint32(b)
	}
	binary.BigEndian.PutUint32(f[64:], ^sum)
	return f
}

// vhdx makes as much of a VHDX as is looked at.
func vhdx(flags uint32) []byte {
	b := make([]byte, 2<<20)
	copy(b, vhdxCookie)
	t := b[vhdxRegionTable:]
	copy(t, vhdxRegionCookie)
	binary.LittleEndian.PutUint32(t[8:], 1)
	copy(t[16:], vhdxMetadataRegion)
	binary.LittleEndian.PutUint64(t[32:], 1<<20)
	binary.LittleEndian.PutUint32(t[40:], 1<<20)
	m := b[1<<20:]
	copy(m, vhdxMetadataWords)
	binary.LittleEndian.PutUint16(m[10:], 1)
	copy(m[32:], vhdxFileParameters)
	binary.LittleEndian.PutUint32(m[48:], 64<<10)
	binary.LittleEndian.PutUint32(m[52:], 8)
	binary.LittleEndian.PutUint32(m[64<<10:], 32<<20)
	binary.LittleEndian.PutUint32(m[64<<10+4:], flags)
	return b
}

func TestProbe(t *testing.T) {
	zeros := func(n int) []byte { return make([]byte, n) }
	damaged := vhdFooter(4096, vhdFixed)
	damaged[50]++
	cut := vhdx(0)
	copy(cut[1<<20:], "nothing ")
	for _, c := range []struct {
		name, file string
		content    []byte
		want       image
		err        string // a part of it
		notThere   bool   // it is ErrNotSupported
	}{
		{"raw", "disk.img", zeros(4096), image{format: formatRaw, size: 4096}, "", false},
		{"fixed", "a.vhd", append(zeros(4096), vhdFooter(4096, vhdFixed)...), image{format: formatFixed, size: 4096}, "", false},
		{"fixed, other name", "a", append(zeros(4096), vhdFooter(4096, vhdFixed)...), image{format: formatFixed, size: 4096}, "", false},
		{"dynamic", "a.vhd", append(append(vhdFooter(1<<20, vhdDynamic), zeros(4096)...), vhdFooter(1<<20, vhdDynamic)...), image{format: formatDynamic, size: 1 << 20}, "", false},
		{"VHDX", "a.vhdx", vhdx(0), image{format: formatVHDX}, "", false},
		{"empty", "a", nil, image{}, "empty", false},
		{"odd size", "a", zeros(1000), image{}, "multiple", false},
		{"text", "a.txt", bytes.Repeat([]byte("hello, world\n"), 512), image{}, "text file", false},
		{"short text", "a", []byte("hello\n"), image{}, "text file", false},
		{"fixed, cut", "a.vhd", zeros(2048), image{}, "truncated", false},
		{"fixed, shorter than it says", "a.vhd", append(zeros(2048), vhdFooter(4096, vhdFixed)...), image{}, "truncated", false},
		{"dynamic, cut", "a.vhd", append(vhdFooter(1<<20, vhdDynamic), zeros(4096)...), image{}, "truncated", false},
		{"damaged", "a.vhd", append(zeros(4096), damaged...), image{}, "checksum", false},
		{"differencing", "a.vhd", append(zeros(4096), vhdFooter(4096, vhdDiff)...), image{}, "parent", true},
		{"VHDX with a parent", "a.vhdx", vhdx(vhdxHasParent), image{}, "parent", true},
		{"VHDX, cut", "a.vhdx", vhdx(0)[:200<<10], image{}, "truncated", false},
		{"VHDX, damaged", "a.vhdx", cut, image{}, "damaged", false},
		{"not a VHDX", "a.vhdx", zeros(4096), image{}, "no VHDX signature", false},
		{"QCOW", "a.img", append([]byte("QFI\xfb"), zeros(4092)...), image{}, "QCOW", true},
		{"VMDK descriptor", "a.vmdk", []byte("# Disk DescriptorFile\n"), image{}, "VMDK", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := probe(bytes.NewReader(c.content), int64(len(c.content)), c.file)
			if c.err == "" {
				if err != nil || got != c.want {
					t.Errorf("got %+v, %v; want %+v", got, err, c.want)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.err) || errors.Is(err, hcs.ErrNotSupported) != c.notThere {
				t.Errorf("got %v, want an error with %q", err, c.err)
			}
		})
	}
}

func FuzzProbe(f *testing.F) {
	f.Add(append(make([]byte, 4096), vhdFooter(4096, vhdFixed)...), "a.vhd")
	f.Add(vhdx(0), "a.vhdx")
	f.Fuzz(func(t *testing.T, b []byte, name string) {
		img, err := probe(bytes.NewReader(b), int64(len(b)), name)
		if err == nil && (img.size > int64(len(b)) && img.format != formatDynamic || img.size < 0) {
			t.Errorf("%+v of %d bytes", img, len(b))
		}
	})
}
