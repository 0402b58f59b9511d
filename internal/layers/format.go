package layers

import (
	"io"
	"time"
)

// An empty ext4 file system is laid out in flexible groups: the first of every
// 16 block groups has the bitmaps and inode tables of all of them, so that the
// other 15 are free throughout.
//
//	group 0           superblock, descriptors, bitmaps, tables, two directories
//	group 16, 32, …   bitmaps, tables
//
// Groups in which nothing is allocated are marked as uninitialised, and inode
// tables as zeroed, which the holes of a new file are: the kernel fills in
// bitmaps when it needs them, and nothing else is written. There is no journal
// (a scratch disk does not outlive its container) and no copy of the
// superblock.
const (
	blocksPerGroup = 8 * blockSize
	groupsPerFlex  = 16
	logFlex        = 4
	inodesPerGroup = blocksPerGroup * blockSize / bytesPerInode
	bytesPerInode  = 16 << 10
	inodesPerBlock = blockSize / inodeSize
	tableBlocks    = inodesPerGroup / inodesPerBlock

	groupInodeUninit = 1
	groupBlockUninit = 2
	groupZeroed      = 4

	firstInode = 11
)

// A format is an empty file system about to be written.
type format struct {
	blocks   uint32
	groups   uint32
	gdBlocks uint32
	perGroup uint32 // inodes: fewer if there is one small group
	now      time.Time
	uuid     [16]byte
	hashSeed [16]byte
}

func newFormat(blocks uint64, now time.Time) *format {
	f := &format{now: now, perGroup: inodesPerGroup}
	last := blocks % blocksPerGroup
	if alone := blocks / blocksPerGroup % groupsPerFlex; alone == 0 && blocks > blocksPerGroup && last <= tableBlocks+2 {
		// The last group begins a flexible group and has no room for its
		// tables: it is left off.
		blocks -= last
	}
	if blocks < blocksPerGroup {
		f.perGroup = uint32(blocks*blockSize/bytesPerInode+inodesPerBlock-1) / inodesPerBlock * inodesPerBlock
	}
	f.blocks = uint32(blocks)
	f.groups = uint32((blocks + blocksPerGroup - 1) / blocksPerGroup)
	f.gdBlocks = (f.groups*groupDescSize + blockSize - 1) / blockSize
	return f
}

// flex returns the first group of the flexible group that g is in, and how
// many groups that has.
func (f *format) flex(g uint32) (first, count uint32) {
	first = g / groupsPerFlex * groupsPerFlex
	return first, min(groupsPerFlex, f.groups-first)
}

// meta returns the first block behind the superblock and the descriptors in
// the first group of a flexible group.
func (f *format) meta(first uint32) uint32 {
	if first == 0 {
		return 1 + f.gdBlocks
	}
	return first * blocksPerGroup
}

// place returns where the bitmaps and the inode table of a group are.
func (f *format) place(g uint32) (blockBitmap, inodeBitmap, table uint32) {
	first, count := f.flex(g)
	at, i := f.meta(first), g-first
	return at + i, at + count + i, at + 2*count + i*f.tableBlocks()
}

func (f *format) tableBlocks() uint32 { return f.perGroup / inodesPerBlock }

// used returns how many blocks at the start of a group are taken.
func (f *format) used(g uint32) uint32 {
	first, count := f.flex(g)
	if g != first {
		return 0
	}
	n := f.meta(first) - first*blocksPerGroup + count*(2+f.tableBlocks())
	if g == 0 {
		n += 2 // the root and lost+found
	}
	return n
}

// size returns how many blocks a group has: the last one may have fewer.
func (f *format) size(g uint32) uint32 {
	return min(blocksPerGroup, f.blocks-g*blocksPerGroup)
}

func (f *format) write(w io.WriterAt) error {
	gds := make([]byte, f.gdBlocks*blockSize)
	free := uint32(0)
	for g := range f.groups {
		gd := gds[g*groupDescSize:][:groupDescSize]
		f.describe(g, gd)
		free += f.size(g) - f.used(g)
		if err := f.writeBitmaps(w, g); err != nil {
			return err
		}
	}
	if err := f.writeDirs(w); err != nil {
		return err
	}
	if _, err := w.WriteAt(gds, blockSize); err != nil {
		return err
	}
	_, err := w.WriteAt(f.super(free), superOffset)
	return err
}

// describe fills in the descriptor of a group.
func (f *format) describe(g uint32, gd []byte) {
	bb, ib, table := f.place(g)
	le.PutUint32(gd[gdBlockBitmap:], bb)
	le.PutUint32(gd[gdInodeBitmap:], ib)
	le.PutUint32(gd[gdInodeTable:], table)
	le.PutUint16(gd[gdFreeBlocks:], uint16(f.size(g)-f.used(g)))
	inodes, flags := f.perGroup, uint16(groupZeroed|groupInodeUninit)
	if g == 0 {
		inodes, flags = f.perGroup-firstInode, groupZeroed
		le.PutUint16(gd[gdDirs:], 2)
	}
	if f.used(g) == 0 && g != f.groups-1 {
		flags |= groupBlockUninit
	}
	le.PutUint16(gd[gdFreeInodes:], uint16(inodes))
	le.PutUint16(gd[gdUnused:], uint16(inodes))
	le.PutUint16(gd[gdFlags:], flags)
	// The checksum is over the identity of the file system, the number of the
	// group, and the descriptor up to the checksum.
	sum := crc16(0xffff, f.uuid[:])
	sum = crc16(sum, le.AppendUint32(nil, g))
	le.PutUint16(gd[gdChecksum:], crc16(sum, gd[:gdChecksum]))
}

// writeBitmaps writes the bitmaps that the kernel does not make itself.
func (f *format) writeBitmaps(w io.WriterAt, g uint32) error {
	bb, ib, _ := f.place(g)
	if n := f.used(g); n > 0 || g == f.groups-1 {
		b := make([]byte, blockSize)
		setBits(b, 0, n)
		setBits(b, f.size(g), blocksPerGroup)
		if _, err := w.WriteAt(b, int64(bb)*blockSize); err != nil {
			return err
		}
	}
	if g != 0 {
		return nil
	}
	b := make([]byte, blockSize)
	setBits(b, 0, firstInode)
	setBits(b, f.perGroup, blocksPerGroup)
	_, err := w.WriteAt(b, int64(ib)*blockSize)
	return err
}

func setBits(b []byte, from, to uint32) {
	for i := from; i < to; i++ {
		b[i/8] |= 1 << (i % 8)
	}
}

// crc16 is the CRC-16 of the kernel's lib/crc16.c: polynomial x^16 + x^15 +
// x^2 + 1, bits reflected.
func crc16(crc uint16, b []byte) uint16 {
	for _, c := range b {
		crc ^= uint16(c)
		for range 8 {
			crc = crc>>1 ^ 0xa001*(crc&1)
		}
	}
	return crc
}
