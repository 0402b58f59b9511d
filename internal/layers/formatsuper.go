package layers

import "io"

// Features of an empty file system.
const (
	compatXattr       = 0x8
	compatDirIndex    = 0x20
	compatSparse2     = 0x200
	incompatFiletype  = 0x2
	incompatExtents   = 0x40
	incompatFlex      = 0x200
	roCompatSparse    = 0x1
	roCompatLargeFile = 0x2
	roCompatHugeFile  = 0x8
	roCompatGroupCsum = 0x10
	roCompatDirNlink  = 0x20
	roCompatExtra     = 0x40

	extraSize = 32 // bytes of an inode beyond the first 128 that are used
)

// super returns the superblock of a file system with so many free blocks.
func (f *format) super(free uint32) []byte {
	b := make([]byte, superSize)
	now := uint32(f.now.Unix())
	for _, v := range []struct {
		at    int
		value uint32
	}{
		{sbInodes, f.perGroup * f.groups},
		{sbBlocks, f.blocks},
		{sbFreeBlocks, free},
		{sbFreeInodes, f.perGroup*f.groups - firstInode},
		{0x18, 2}, // log2 of the block size in KiB
		{0x1c, 2}, // of a cluster
		{0x20, blocksPerGroup},
		{0x24, blocksPerGroup}, // clusters per group
		{sbPerGroup, f.perGroup},
		{0x30, now}, // written
		{0x40, now}, // checked
		{0x4c, 1},   // revision: with features
		{0x54, firstInode},
		{0x5c, compatXattr | compatDirIndex | compatSparse2},
		{0x60, incompatFiletype | incompatExtents | incompatFlex},
		{0x64, roCompatSparse | roCompatLargeFile | roCompatHugeFile | roCompatGroupCsum | roCompatDirNlink | roCompatExtra},
		{0x100, 0xc}, // mount options: user_xattr, acl
		{0x108, now}, // made
		{0x160, 1},   // directory hashes are of signed characters
		{sbLostFound, lostInode},
	} {
		le.PutUint32(b[v.at:], v.value)
	}
	for _, v := range []struct {
		at    int
		value uint16
	}{
		{0x36, 0xffff}, // no check after a number of mounts
		{sbMagic, superMagic},
		{0x3a, 1}, // clean
		{0x3c, 1}, // on errors go on
		{0x58, inodeSize},
		{0x15c, extraSize}, // every inode has so much
		{0x15e, extraSize}, // and should
	} {
		le.PutUint16(b[v.at:], v.value)
	}
	copy(b[sbUUID:], f.uuid[:])
	copy(b[0xec:], f.hashSeed[:])
	b[0xfc] = 1 // half MD4
	b[0x174] = logFlex
	return b
}

// writeDirs writes the root and lost+found, which file system checkers want.
func (f *format) writeDirs(w io.WriterAt) error {
	_, _, table := f.place(0)
	root := f.used(0) - 2
	for _, d := range []struct {
		inode, links uint32
		mode         uint16
		block        uint32
		data         []byte
	}{
		{rootInode, 3, 0o755, root, dirBlock(
			dirName{rootInode, "."}, dirName{rootInode, ".."}, dirName{lostInode, lostFound})},
		{lostInode, 2, 0o700, root + 1, dirBlock(
			dirName{lostInode, "."}, dirName{rootInode, ".."})},
	} {
		at := int64(table)*blockSize + int64(d.inode-1)*inodeSize
		if _, err := w.WriteAt(f.dirInode(d.mode, d.links, d.block), at); err != nil {
			return err
		}
		if _, err := w.WriteAt(d.data, int64(d.block)*blockSize); err != nil {
			return err
		}
	}
	return nil
}

// dirInode returns the inode of a directory of one block.
func (f *format) dirInode(mode uint16, links, block uint32) []byte {
	b := make([]byte, inodeSize)
	now := uint32(f.now.Unix())
	le.PutUint16(b[inodeMode:], 0o40000|mode)
	le.PutUint32(b[inodeLow:], blockSize)
	for _, at := range []int{0x08, 0x0c, 0x10, 0x90} { // read, changed, modified, made
		le.PutUint32(b[at:], now)
	}
	le.PutUint16(b[inodeLinks:], uint16(links))
	le.PutUint32(b[inodeSect:], blockSize/512)
	le.PutUint32(b[inodeFlags:], flagExtents)
	le.PutUint16(b[inodeBlock:], extentMagic)
	le.PutUint16(b[inodeBlock+2:], 1)      // extents here
	le.PutUint16(b[inodeBlock+4:], 4)      // room for
	le.PutUint16(b[inodeBlock+16:], 1)     // blocks of the first
	le.PutUint32(b[inodeBlock+20:], block) // and where
	le.PutUint16(b[inodeExtra:], extraSize)
	return b
}

type dirName struct {
	inode uint32
	name  string
}

// dirBlock returns the block of a directory; the last entry has the rest.
func dirBlock(names ...dirName) []byte {
	const header, isDir = 8, 2
	b := make([]byte, blockSize)
	for at, i := 0, 0; i < len(names); i++ {
		size := (header + len(names[i].name) + 3) &^ 3
		if i == len(names)-1 {
			size = blockSize - at
		}
		le.PutUint32(b[at:], names[i].inode)
		le.PutUint16(b[at+4:], uint16(size))
		b[at+6], b[at+7] = byte(len(names[i].name)), isDir
		copy(b[at+header:], names[i].name)
		at += size
	}
	return b
}
