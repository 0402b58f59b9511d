package layers

import (
	"crypto/sha256"
	"fmt"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// The ext4 writer always makes a directory lost+found in the root, which a
// container would see though no image has it. It is taken out again; a layer
// that has a file or a whiteout of that name carries it under an alias of the
// same length until then.
const (
	lostFound = "lost+found"
	lostAlias = ".lost+foun"
)

// alias is the name by which the ext4 writer is told of a name.
func alias(name string) string {
	if name == lostFound {
		return lostAlias
	}
	return name
}

// finishDisk makes of what the ext4 writer left a layer's disk: an identity,
// no lost+found that is not in the layer, and attributes in the order in
// which the kernel searches them.
func finishDisk(f *os.File, diffID v1.Hash, t *tree) error {
	v, err := openVolume(f)
	if err != nil {
		return err
	}
	// A UUID of version 8, which leaves the other bits to us (RFC 9562).
	id := sha256.Sum256([]byte("byre layer " + diffID.String()))
	copy(v.super[sbUUID:], id[:16])
	v.super[sbUUID+6] = v.super[sbUUID+6]&0x0f | 0x80
	v.super[sbUUID+8] = v.super[sbUUID+8]&0x3f | 0x80

	lost := t.root.children[lostFound]
	if lost == nil || !lost.isDir() {
		if err := v.dropLostFound(lost != nil); err != nil {
			return fmt.Errorf("removing %s: %w", lostFound, err)
		}
	}
	if t.xattrs {
		if err := v.sortXattrs(); err != nil {
			return fmt.Errorf("sorting attributes: %w", err)
		}
	}
	if err := v.padBitmaps(); err != nil {
		return fmt.Errorf("padding bitmaps: %w", err)
	}
	return v.write(v.super, superOffset)
}

// padBitmaps marks the inodes that the groups do not have as taken, which the
// writer leaves to the reader's mercy.
func (v *volume) padBitmaps() error {
	for g := range le.Uint32(v.super[sbInodes:]) / v.perGroup {
		gd, _, err := v.group(g)
		if err != nil {
			return err
		}
		at := le.Uint32(gd[gdInodeBitmap:])
		b, err := v.block(at)
		if err != nil {
			return err
		}
		setBits(b, v.perGroup, 8*blockSize)
		if err := v.write(b, int64(at)*blockSize); err != nil {
			return err
		}
	}
	return nil
}

// dropLostFound removes the directory that the writer made and gives its name
// to the alias.
func (v *volume) dropLostFound(aliased bool) error {
	root, rootOff, err := v.inode(rootInode)
	if err != nil {
		return err
	}
	start, count, err := dirBlocks(root)
	if err != nil {
		return err
	}
	if err := v.unlink(start, lostFound); err != nil {
		return err
	}
	le.PutUint16(root[inodeLinks:], le.Uint16(root[inodeLinks:])-1)
	if err := v.write(root, rootOff); err != nil {
		return err
	}
	if err := v.freeLostFound(); err != nil {
		return err
	}
	for i := start; aliased && i < start+count; i++ {
		done, err := v.rename(i, lostAlias, lostFound)
		if err != nil || done {
			return err
		}
	}
	if aliased {
		return fmt.Errorf("%w: no %s", errLayout, lostAlias)
	}
	return nil
}

// unlink removes a name from a block of a directory: the entry before it
// takes over its room.
func (v *volume) unlink(block uint32, name string) error {
	b, err := v.block(block)
	if err != nil {
		return err
	}
	at, before, err := dirEntry(b, name)
	if err != nil {
		return err
	}
	if at < 0 || before < 0 || le.Uint32(b[at:]) != lostInode {
		return fmt.Errorf("%w: no %s", errLayout, name)
	}
	size := le.Uint16(b[at+4:])
	clear(b[at : at+int(size)])
	le.PutUint16(b[before+4:], le.Uint16(b[before+4:])+size)
	return v.write(b, int64(block)*blockSize)
}

// rename gives an entry another name of the same length.
func (v *volume) rename(block uint32, old, name string) (bool, error) {
	b, err := v.block(block)
	if err != nil {
		return false, err
	}
	at, _, err := dirEntry(b, old)
	if err != nil || at < 0 {
		return false, err
	}
	copy(b[at+8:], name)
	return true, v.write(b, int64(block)*blockSize)
}

// freeLostFound gives back the inode and the block of the directory, both of
// which are in the first group.
func (v *volume) freeLostFound() error {
	lost, off, err := v.inode(lostInode)
	if err != nil {
		return err
	}
	start, count, err := dirBlocks(lost)
	if err != nil {
		return err
	}
	gd, gdOff, err := v.group(start / (8 * blockSize))
	if err != nil {
		return err
	}
	first, firstOff, err := v.group(0)
	if err != nil {
		return err
	}
	if firstOff == gdOff {
		gd = first
	}
	if count != 1 || le.Uint32(lost[inodeACL:]) != 0 {
		return fmt.Errorf("%w: %s has %d blocks", errLayout, lostFound, count)
	}
	if err := v.clearBit(le.Uint32(gd[gdBlockBitmap:]), start%(8*blockSize)); err != nil {
		return err
	}
	if err := v.clearBit(le.Uint32(first[gdInodeBitmap:]), lostInode-1); err != nil {
		return err
	}
	le.PutUint16(gd[gdFreeBlocks:], le.Uint16(gd[gdFreeBlocks:])+1)
	le.PutUint16(first[gdFreeInodes:], le.Uint16(first[gdFreeInodes:])+1)
	le.PutUint16(first[gdDirs:], le.Uint16(first[gdDirs:])-1)
	le.PutUint32(v.super[sbFreeBlocks:], le.Uint32(v.super[sbFreeBlocks:])+1)
	le.PutUint32(v.super[sbFreeInodes:], le.Uint32(v.super[sbFreeInodes:])+1)
	le.PutUint32(v.super[sbLostFound:], 0)
	for _, w := range []struct {
		b   []byte
		off int64
	}{{gd, gdOff}, {first, firstOff}, {make([]byte, inodeSize), off}, {zeroPage[:], int64(start) * blockSize}} {
		if err := v.write(w.b, w.off); err != nil {
			return err
		}
	}
	return nil
}

func (v *volume) clearBit(bitmap, bit uint32) error {
	b, err := v.block(bitmap)
	if err != nil {
		return err
	}
	if b[bit/8]&(1<<(bit%8)) == 0 {
		return fmt.Errorf("%w: bitmap", errLayout)
	}
	b[bit/8] &^= 1 << (bit % 8)
	return v.write(b, int64(bitmap)*blockSize)
}
