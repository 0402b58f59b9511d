//go:build linux

package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// ErrFormat means that a disk has no file system that the agent mounts.
var ErrFormat = errors.New("no ext4 or EROFS file system")

// fsType tells the file system of a disk by its superblock. ext4 and EROFS
// have theirs at byte 1024.
func fsType(r io.ReaderAt) (string, error) {
	var b [1024]byte
	if _, err := r.ReadAt(b[:], 1024); err != nil {
		if errors.Is(err, io.EOF) {
			return "", fmt.Errorf("%w: the disk is smaller than a superblock", ErrFormat)
		}
		return "", err
	}
	switch {
	case binary.LittleEndian.Uint32(b[0:]) == 0xe0f5e1e2:
		return "erofs", nil
	case binary.LittleEndian.Uint16(b[0x38:]) == 0xef53:
		return "ext4", nil
	}
	return "", ErrFormat
}

func fsTypeOf(device string) (string, error) {
	f, err := os.Open(device)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return fsType(f)
}
