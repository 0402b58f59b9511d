package layers

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// checkFooter checks a footer against the specification, read anew.
func checkFooter(t *testing.T, b []byte, kind uint32, size int64) {
	t.Helper()
	var f struct {
		Cookie                    [8]byte
		Features, Version         uint32
		DataOffset                uint64
		Time                      uint32
		Creator                   [4]byte
		CreatorVersion, CreatorOS uint32
		Original, Current         uint64
		Cylinders                 uint16
		Heads, Sectors            uint8
		Kind, Sum                 uint32
		ID                        [16]byte
		Saved                     uint8
		Reserved                  [427]byte
	}
	if err := binary.Read(bytes.NewReader(b), binary.BigEndian, &f); err != nil {
		t.Fatal(err)
	}
	sum := uint32(0)
	for i, c := range b {
		if i < 64 || i >= 68 {
			sum += uint32(c)
		}
	}
	if string(f.Cookie[:]) != "conectix" || f.Version != 0x10000 || f.Features != 2 || f.Kind != kind || f.Sum != ^sum ||
		f.Original != uint64(size) || f.Current != uint64(size) || f.Cylinders == 0 || (kind == vhdFixed) != (f.DataOffset == 1<<64-1) {
		t.Errorf("got footer %+v, want type %d, size %d and sum %#x", f, kind, size, ^sum)
	}
}

func TestFixedVHD(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "d.vhd"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(diskAlign); err != nil {
		t.Fatal(err)
	}
	if err := appendFooter(f, [16]byte{1}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(f.Name())
	if err != nil || len(b) != diskAlign+vhdSector {
		t.Fatalf("got %d bytes, %v", len(b), err)
	}
	checkFooter(t, b[diskAlign:], vhdFixed, diskAlign)
}

func TestVHDGeometry(t *testing.T) {
	for _, tt := range []struct {
		size           int64
		c              uint16
		heads, sectors byte
	}{ // as other programs have it
		{4 << 20, 120, 4, 17}, {64 << 20, 963, 8, 17}, {1 << 30, 2080, 16, 63}, {20 << 30, 41610, 16, 63}, {vhdMax, 65535, 16, 255},
	} {
		if c, h, s := vhdGeometry(tt.size); c != tt.c || h != tt.heads || s != tt.sectors {
			t.Errorf("size %d: got %d/%d/%d, want %d/%d/%d", tt.size, c, h, s, tt.c, tt.heads, tt.sectors)
		}
	}
}

// readDynamic reads a dynamic VHD whole.
func readDynamic(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	be := binary.BigEndian
	footer, h := b[len(b)-vhdSector:], b[vhdSector:vhdSector+vhdHeader]
	size := int64(be.Uint64(footer[48:]))
	checkFooter(t, footer, vhdDynamic, size)
	if !bytes.Equal(footer, b[:vhdSector]) || string(h[:8]) != "cxsparse" || be.Uint32(h[32:]) != vhdBlock {
		t.Fatal("the head is not as specified")
	}
	sum := uint32(0)
	for i, c := range h {
		if i < 36 || i >= 40 {
			sum += uint32(c)
		}
	}
	if be.Uint32(h[36:]) != ^sum {
		t.Error("the sum of the header is wrong")
	}
	n := int64(be.Uint32(h[28:]))
	out := make([]byte, n*vhdBlock)
	table := b[be.Uint64(h[16:]):]
	for i := range n {
		if at := int64(be.Uint32(table[4*i:])); at != vhdNothing {
			block := b[at*vhdSector:][:vhdSector+vhdBlock]
			if !bytes.Equal(block[:vhdSector], bytes.Repeat([]byte{0xff}, vhdSector)) {
				t.Errorf("block %d is not there as a whole", i)
			}
			copy(out[i*vhdBlock:], block[vhdSector:])
		}
	}
	return out[:size]
}

func TestDynamicVHD(t *testing.T) {
	const size = 5*vhdBlock + 4096
	f, err := os.Create(filepath.Join(t.TempDir(), "d.vhd"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d, err := newDynamicVHD(f, size)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, size)
	random := rand.New(rand.NewPCG(1, 2))
	write := func(off, n int64, fill bool) {
		t.Helper()
		p := make([]byte, n)
		for i := range p {
			if fill {
				p[i] = byte(random.Uint32())
			}
		}
		copy(want[off:], p)
		if m, err := d.WriteAt(p, off); m != int(n) || err != nil {
			t.Errorf("got %d, %v", m, err)
		}
	}
	write(0, 2*vhdBlock, false)           // nothing is taken
	write(vhdBlock-100, 200, true)        // two blocks
	write(vhdBlock-50, 20, false)         // zeros over what is there
	write(5*vhdBlock, 4096, true)         // the last
	write(3*vhdBlock+17, vhdBlock, false) // nothing again
	for _, off := range []int64{-1, size - 1} {
		if _, err := d.WriteAt(make([]byte, 2), off); !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("at %d: got %v", off, err)
		}
	}
	if err := d.finish([16]byte{2}); err != nil {
		t.Fatal(err)
	}
	if got := readDynamic(t, f.Name()); !bytes.Equal(got, want) {
		t.Error("what is read is not what was written")
	}
	if fi, _ := f.Stat(); fi.Size() > 4*vhdBlock {
		t.Errorf("the file has %d bytes for 3 blocks", fi.Size())
	}
	if _, err := newDynamicVHD(f, vhdMax+1); !errors.Is(err, ErrInvalid) {
		t.Errorf("got error %v, want %v", err, ErrInvalid)
	}
}

// A scratch disk that is a VHD has the same file system as one that is none.
func TestScratchVHD(t *testing.T) {
	var disks [2][]byte
	for i, vhd := range []bool{false, true} {
		f, err := os.Create(filepath.Join(t.TempDir(), "d"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		fs := newFormat(40<<20/blockSize, time.Unix(1, 0))
		if err := writeScratch(f, fs, vhd); err != nil {
			t.Fatal(err)
		}
		if vhd {
			disks[i] = readDynamic(t, f.Name())
		} else if disks[i], err = os.ReadFile(f.Name()); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(disks[0], disks[1]) {
		t.Errorf("the disks differ: %d and %d bytes", len(disks[0]), len(disks[1]))
	}
}
