package layers

import (
	"archive/tar"
	"fmt"
	"time"
)

// A union looks folders up in a stack of layers.
type union struct {
	disks   []*disk
	lookups []*lookup
	implied []map[string]bool
}

func newUnion(disks []*disk) (*union, error) {
	u := &union{disks: disks}
	for _, d := range disks {
		l, err := newLookup(d.f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.f.Name(), err)
		}
		implied := map[string]bool{}
		for _, p := range d.rec.Implied {
			implied[p] = true
		}
		u.lookups, u.implied = append(u.lookups, l), append(u.implied, implied)
	}
	return u, nil
}

// folder returns what a folder should be. inherited is set if overlayfs would
// not see it: the uppermost layer that has the folder has no entry for it.
func (u *union) folder(p string) (h *tar.Header, inherited bool, err error) {
	for i := len(u.disks) - 1; i >= 0; i-- {
		at, err := u.lookups[i].find(p)
		if err != nil {
			return nil, false, err
		}
		if at.isDir() && !u.implied[i][p] {
			h, err := u.lookups[i].header(at.inode)
			return h, inherited, err
		}
		inherited = inherited || at.isDir()
		if at.cut {
			break
		}
	}
	return &tar.Header{Typeflag: tar.TypeDir, Mode: 0o755, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}, inherited, nil
}

// link returns the target of a symbolic link; empty if the union has none at
// the path.
func (u *union) link(p string) (string, error) {
	for i := len(u.disks) - 1; i >= 0; i-- {
		at, err := u.lookups[i].find(p)
		if err != nil {
			return "", err
		}
		if at.is(modeLink) {
			return u.lookups[i].link(at.inode)
		}
		if at.inode != nil || at.cut {
			break
		}
	}
	return "", nil
}
