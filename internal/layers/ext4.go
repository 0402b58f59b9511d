package layers

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Where things are in an ext4 file system: fs/ext4/ext4.h. All of the file
// systems here have blocks of 4 KiB, short group descriptors and inodes of
// 256 bytes.
const (
	blockSize = 4096
	inodeSize = 256

	superOffset   = 1024
	superSize     = 1024
	sbInodes      = 0x00
	sbBlocks      = 0x04
	sbFreeBlocks  = 0x0c
	sbFreeInodes  = 0x10
	sbPerGroup    = 0x28 // inodes per group
	sbMagic       = 0x38
	sbUUID        = 0x68
	sbLostFound   = 0x268
	superMagic    = 0xef53
	groupDescSize = 32
	gdBlockBitmap = 0x00
	gdInodeBitmap = 0x04
	gdInodeTable  = 0x08
	gdFreeBlocks  = 0x0c
	gdFreeInodes  = 0x0e
	gdDirs        = 0x10
	gdFlags       = 0x12
	gdUnused      = 0x1c // inodes at the end of the table that never were used
	gdChecksum    = 0x1e

	inodeMode   = 0x00
	inodeLow    = 0x04 // size
	inodeLinks  = 0x1a
	inodeSect   = 0x1c // size in sectors
	inodeFlags  = 0x20
	inodeBlock  = 0x28
	inodeACL    = 0x68 // block of extended attributes
	inodeExtra  = 0x80
	extentMagic = 0xf30a
	flagExtents = 0x80000

	rootInode = 2
	lostInode = 11
)

var le = binary.LittleEndian

var errLayout = errors.New("unexpected layout of the ext4 file system")

// A volume edits an ext4 file system of one's own making.
type volume struct {
	f interface {
		io.ReaderAt
		io.WriterAt
	}
	super    []byte
	perGroup uint32 // inodes
}

func openVolume(f interface {
	io.ReaderAt
	io.WriterAt
}) (*volume, error) {
	v := &volume{f: f, super: make([]byte, superSize)}
	if _, err := f.ReadAt(v.super, superOffset); err != nil {
		return nil, err
	}
	if le.Uint16(v.super[sbMagic:]) != superMagic {
		return nil, fmt.Errorf("%w: magic", errLayout)
	}
	v.perGroup = le.Uint32(v.super[sbPerGroup:])
	if v.perGroup == 0 || v.perGroup > 8*blockSize {
		return nil, fmt.Errorf("%w: inodes per group", errLayout)
	}
	return v, nil
}

func (v *volume) block(n uint32) ([]byte, error) {
	b := make([]byte, blockSize)
	_, err := v.f.ReadAt(b, int64(n)*blockSize)
	return b, err
}

func (v *volume) write(b []byte, off int64) error {
	_, err := v.f.WriteAt(b, off)
	return err
}

// group returns the descriptor of a group and where it is.
func (v *volume) group(n uint32) ([]byte, int64, error) {
	b, off := make([]byte, groupDescSize), blockSize+int64(n)*groupDescSize
	_, err := v.f.ReadAt(b, off)
	return b, off, err
}

// inode returns an inode and where it is.
func (v *volume) inode(n uint32) ([]byte, int64, error) {
	gd, _, err := v.group((n - 1) / v.perGroup)
	if err != nil {
		return nil, 0, err
	}
	off := int64(le.Uint32(gd[gdInodeTable:]))*blockSize + int64((n-1)%v.perGroup)*inodeSize
	b := make([]byte, inodeSize)
	_, err = v.f.ReadAt(b, off)
	return b, off, err
}

// dirBlocks returns where a directory starts and how many blocks it has: the
// writer lays each out in one piece.
func dirBlocks(inode []byte) (start, count uint32, err error) {
	const header, physical = inodeBlock, inodeBlock + 12 + 8
	if le.Uint32(inode[inodeFlags:])&flagExtents == 0 || le.Uint16(inode[header:]) != extentMagic ||
		le.Uint16(inode[header+2:]) == 0 || le.Uint16(inode[header+6:]) != 0 {
		return 0, 0, fmt.Errorf("%w: extents of a directory", errLayout)
	}
	return le.Uint32(inode[physical:]), le.Uint32(inode[inodeLow:]) / blockSize, nil
}

// eachEntry calls fn for each name in a block of a directory, with the offset
// of its entry, until fn returns false.
func eachEntry(b []byte, fn func(at int, name string) bool) error {
	for at := 0; at < len(b); {
		size := int(le.Uint16(b[at+4:]))
		if size < 8 || size%4 != 0 || at+size > len(b) || 8+int(b[at+6]) > size {
			return fmt.Errorf("%w: directory entry", errLayout)
		}
		if le.Uint32(b[at:]) != 0 && !fn(at, string(b[at+8:at+8+int(b[at+6])])) {
			return nil
		}
		at += size
	}
	return nil
}

// dirEntry finds a name in a block of a directory. It returns the offsets of
// the entry and of the one before it, -1 where there is none.
func dirEntry(b []byte, name string) (at, before int, err error) {
	at, before = -1, -1
	last := -1
	err = eachEntry(b, func(i int, n string) bool {
		if n == name {
			at, before = i, last
		}
		last = i
		return at < 0
	})
	return at, before, err
}
