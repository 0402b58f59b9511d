package layers

import (
	"archive/tar"
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	modeType = 0xf000
	modeDir  = 0x4000
	modeLink = 0xa000

	inodeUID     = 0x02
	inodeMtime   = 0x10
	inodeGID     = 0x18
	inodeUIDHigh = 0x78
	inodeGIDHigh = 0x7a
	inodeMtimeNS = 0x88
)

// A lookup finds what is on a layer's disk.
type lookup struct {
	v    *volume
	dirs map[uint32]map[string]uint32 // names in the folders that were read
}

func newLookup(f interface {
	io.ReaderAt
	io.WriterAt
}) (*lookup, error) {
	v, err := openVolume(f)
	return &lookup{v, map[uint32]map[string]uint32{}}, err
}

// A place is what a layer has at a path.
type place struct {
	inode []byte // nil if the layer has nothing of that name
	cut   bool   // what lower layers have there is hidden
}

func (p place) isDir() bool { return p.is(modeDir) }

func (p place) is(mode uint16) bool {
	return p.inode != nil && le.Uint16(p.inode[inodeMode:])&modeType == mode
}

// find looks a path up, without following symbolic links.
func (l *lookup) find(path string) (place, error) {
	var p place
	n := uint32(rootInode)
	rest := strings.Split(path, "/")
	for i := 0; ; i++ {
		inode, _, err := l.v.inode(n)
		if err != nil {
			return place{}, err
		}
		here := place{inode: inode}
		if !here.isDir() {
			if i < len(rest) {
				here.inode = nil
			}
			return place{here.inode, true}, nil
		}
		attrs, err := l.v.xattrs(inode)
		if err != nil {
			return place{}, err
		}
		p.cut = p.cut || attrs[xattrOpaque] != ""
		if i == len(rest) {
			p.inode = inode
			return p, nil
		}
		names, err := l.list(n, inode)
		if err != nil {
			return place{}, err
		}
		if n = names[rest[i]]; n == 0 {
			return p, nil
		}
	}
}

// link returns the target of a symbolic link: short ones are in the inode.
func (l *lookup) link(inode []byte) (string, error) {
	size := le.Uint32(inode[inodeLow:])
	if size < 60 {
		return string(inode[inodeBlock:][:size]), nil
	}
	start, _, err := dirBlocks(inode)
	if err != nil || size > blockSize {
		return "", fmt.Errorf("%w: symbolic link", errLayout)
	}
	b, err := l.v.block(start)
	return string(b[:size]), err
}

// list returns the names in a folder and their inodes.
func (l *lookup) list(n uint32, inode []byte) (map[string]uint32, error) {
	if names, ok := l.dirs[n]; ok {
		return names, nil
	}
	start, count, err := dirBlocks(inode)
	if err != nil {
		return nil, err
	}
	names := map[string]uint32{}
	for i := range count {
		b, err := l.v.block(start + i)
		if err != nil {
			return nil, err
		}
		if err := eachEntry(b, func(at int, name string) bool {
			names[name] = le.Uint32(b[at:])
			return true
		}); err != nil {
			return nil, err
		}
	}
	l.dirs[n] = names
	return names, nil
}

// header returns a folder's entry in an archive.
func (l *lookup) header(inode []byte) (*tar.Header, error) {
	attrs, err := l.v.xattrs(inode)
	if err != nil {
		return nil, err
	}
	h := &tar.Header{
		Typeflag:   tar.TypeDir,
		Mode:       int64(le.Uint16(inode[inodeMode:]) & 0o7777),
		Uid:        int(le.Uint16(inode[inodeUID:])) | int(le.Uint16(inode[inodeUIDHigh:]))<<16,
		Gid:        int(le.Uint16(inode[inodeGID:])) | int(le.Uint16(inode[inodeGIDHigh:]))<<16,
		ModTime:    inodeTime(inode),
		PAXRecords: map[string]string{},
		Format:     tar.FormatPAX,
	}
	for name, value := range attrs {
		if strings.HasPrefix(name, xattrACL) {
			value = callACL(value)
		}
		if name != xattrOpaque {
			h.PAXRecords[xattrRecord+name] = value
		}
	}
	return h, nil
}

// inodeTime reads the time of modification: 34 bits of seconds, of which the
// upper two are with the nanoseconds.
func inodeTime(inode []byte) time.Time {
	extra := le.Uint32(inode[inodeMtimeNS:])
	return time.Unix(int64(le.Uint32(inode[inodeMtime:]))|int64(extra&3)<<32, int64(extra>>2))
}

// xattrs returns the attributes of an inode by their full names.
func (v *volume) xattrs(inode []byte) (map[string]string, error) {
	out := map[string]string{}
	if at := 128 + int(le.Uint16(inode[inodeExtra:])); at+8 <= len(inode) && le.Uint32(inode[at:]) == xattrMagic {
		if err := readXattrs(inode[at+4:], 0, out); err != nil {
			return nil, err
		}
	}
	if n := le.Uint32(inode[inodeACL:]); n != 0 {
		b, err := v.block(n)
		if err != nil {
			return nil, err
		}
		if err := readXattrs(b, xattrHeader, out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// readXattrs reads the entries at an offset of b, where offsets of values
// count from the start of b.
func readXattrs(b []byte, at int, out map[string]string) error {
	prefix := map[byte]string{1: "user.", 2: xattrACL + "access", 3: xattrACL + "default", 4: "trusted.", 6: "security."}
	for at+xattrEntry <= len(b) && b[at] != 0 {
		name, value := int(b[at]), int(le.Uint16(b[at+2:]))
		size := int(le.Uint32(b[at+8:]))
		if at+xattrEntry+name > len(b) || size > len(b) || value+size > len(b) {
			return fmt.Errorf("%w: attributes", errLayout)
		}
		out[prefix[b[at+1]]+string(b[at+xattrEntry:at+xattrEntry+name])] = string(b[value : value+size])
		at += xattrEntry + (name+3)&^3
	}
	return nil
}
