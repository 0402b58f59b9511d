package layers

import (
	"bytes"
	"fmt"
	"sort"
)

const (
	xattrMagic  = 0xea020000
	xattrHeader = 32
	xattrEntry  = 16
)

// sortXattrs puts the entries of each block of attributes into the order that
// the kernel's search relies on: namespace, length of the name, name. The
// writer compares them in a way that is no order once there are several.
func (v *volume) sortXattrs() error {
	inodes := le.Uint32(v.super[sbInodes:])
	gd, _, err := v.group(0)
	if err != nil {
		return err
	}
	// With flexible groups as the writer makes them, the tables follow one
	// another.
	table := int64(le.Uint32(gd[gdInodeTable:])) * blockSize
	chunk := make([]byte, 64*blockSize)
	for at := int64(0); at < int64(inodes)*inodeSize; at += int64(len(chunk)) {
		chunk = chunk[:min(int64(len(chunk)), int64(inodes)*inodeSize-at)]
		if _, err := v.f.ReadAt(chunk, table+at); err != nil {
			return err
		}
		for i := 0; i < len(chunk); i += inodeSize {
			block := le.Uint32(chunk[i+inodeACL:])
			if block == 0 || le.Uint16(chunk[i+inodeLinks:]) == 0 {
				continue
			}
			if err := v.sortXattrBlock(block); err != nil {
				return err
			}
		}
	}
	return nil
}

func (v *volume) sortXattrBlock(block uint32) error {
	b, err := v.block(block)
	if err != nil {
		return err
	}
	if le.Uint32(b) != xattrMagic {
		return fmt.Errorf("%w: attributes in block %d", errLayout, block)
	}
	var entries [][]byte
	end := xattrHeader
	for end+xattrEntry <= len(b) && b[end] != 0 {
		size := xattrEntry + (int(b[end])+3)&^3
		if end+size > len(b) {
			return fmt.Errorf("%w: attributes in block %d", errLayout, block)
		}
		entries = append(entries, bytes.Clone(b[end:end+size]))
		end += size
	}
	if len(entries) < 2 {
		return nil
	}
	sort.SliceStable(entries, func(i, j int) bool {
		a, c := entries[i], entries[j]
		if a[1] != c[1] {
			return a[1] < c[1]
		}
		if a[0] != c[0] {
			return a[0] < c[0]
		}
		return bytes.Compare(a[xattrEntry:], c[xattrEntry:]) < 0
	})
	copy(b[xattrHeader:end], bytes.Join(entries, nil))
	return v.write(b, int64(block)*blockSize)
}
