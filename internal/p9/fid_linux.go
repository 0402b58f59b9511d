package p9

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/byrevm/byre/internal/hostfs"
	"golang.org/x/sys/unix"
)

// A fid is the client's handle of a file. Its lock is held for reading while
// a request uses it, for writing while it becomes something else or ends; who
// needs two takes the lower number first.
type fid struct {
	id  uint32
	uid uint32 // who attached

	mu    sync.RWMutex // guards the rest
	sh    *hostfs.Tree
	node  *hostfs.Node // nil once the fid or its share has ended
	file  *file        // nil unless open
	xattr *xattr
}

// A file is an open file or folder.
type file struct {
	*hostfs.File

	// privileged is set until the first write of a user to a file that gives
	// the rights of its owner to whoever runs it. The client's kernel leaves it
	// to the server to take those away.
	privileged atomic.Bool
}

// host returns the file, nil if there is none.
func (f *file) host() *hostfs.File {
	if f == nil {
		return nil
	}
	return f.File
}

// end lets go of all that the fid has. f.mu is held for writing.
func (f *fid) end(c *conn) error {
	if f.node == nil {
		return nil
	}
	c.dropLocks(f)
	var err error
	if f.file != nil {
		err = f.file.Close()
		f.file = nil
	}
	f.node.Unref()
	f.node = nil
	f.xattr.free(c.s)
	f.xattr = nil
	return err
}

// use returns a fid that stays as it is until release is called.
func (c *conn) use(id uint32) (f *fid, release func(), err error) {
	if f, err = c.find(id); err != nil {
		return nil, nil, err
	}
	f.mu.RLock()
	if err := f.usable(); err != nil {
		f.mu.RUnlock()
		return nil, nil, err
	}
	return f, f.mu.RUnlock, nil
}

// change returns a fid that nobody else uses until release is called.
func (c *conn) change(id uint32) (f *fid, release func(), err error) {
	if f, err = c.find(id); err != nil {
		return nil, nil, err
	}
	f.mu.Lock()
	if err := f.usable(); err != nil {
		f.mu.Unlock()
		return nil, nil, err
	}
	return f, f.mu.Unlock, nil
}

// useTwo is use of two fids, which may be one, of one share.
func (c *conn) useTwo(first, second uint32) (f1, f2 *fid, release func(), err error) {
	if f1, err = c.find(first); err != nil {
		return nil, nil, nil, err
	}
	if f2, err = c.find(second); err != nil {
		return nil, nil, nil, err
	}
	order := []*fid{f1, f2}
	slices.SortFunc(order, func(a, b *fid) int { return int(int64(a.id) - int64(b.id)) })
	order = slices.Compact(order)
	release = func() {
		for _, f := range order {
			f.mu.RUnlock()
		}
	}
	for _, f := range order {
		f.mu.RLock()
	}
	for _, f := range order {
		if err == nil {
			err = f.usable()
		}
	}
	if err == nil && f1.sh != f2.sh {
		err = unix.EXDEV
	}
	if err != nil {
		release()
		return nil, nil, nil, err
	}
	return f1, f2, release, nil
}

func (f *fid) usable() error {
	switch {
	case f.sh.Gone() != nil:
		return errGone
	case f.node == nil: // it ended since it was found
		return unix.EBADF
	}
	return nil
}

func (c *conn) find(id uint32) (*fid, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.fids[id]; f != nil {
		return f, nil
	}
	return nil, unix.EBADF
}

// insert adds a fid, with what it has; on error that is given up.
func (c *conn) insert(f *fid) error {
	c.mu.Lock()
	var err error
	switch {
	case f.id == noFid || c.fids[f.id] != nil:
		err = unix.EBADF
	case len(c.fids) >= c.s.config.MaxFids:
		err = unix.ENFILE
	case f.sh.Gone() != nil:
		err = errGone
	case c.s.fids.Add(1) > int64(c.s.config.MaxFids)*4:
		c.s.fids.Add(-1)
		err = unix.ENFILE
	default:
		c.fids[f.id] = f
	}
	c.mu.Unlock()
	if err != nil {
		f.node.Unref()
		f.xattr.free(c.s)
	}
	return err
}

// remove takes a fid away from the client. The caller ends it.
func (c *conn) remove(id uint32) (*fid, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.fids[id]
	if f == nil {
		return nil, unix.EBADF
	}
	delete(c.fids, id)
	c.s.fids.Add(-1)
	return f, nil
}

// drop ends the fids of a share that is gone. The client keeps their numbers.
func (c *conn) drop(sh *hostfs.Tree) {
	for _, f := range c.all() {
		if f.sh != sh {
			continue
		}
		f.mu.Lock()
		_ = f.end(c) // nobody is left to tell
		f.mu.Unlock()
	}
}

func (c *conn) all() []*fid {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]*fid, 0, len(c.fids))
	for _, f := range c.fids {
		all = append(all, f)
	}
	return all
}

// reset ends all fids.
func (c *conn) reset() {
	all := c.all()
	c.mu.Lock()
	c.s.fids.Add(-int64(len(c.fids)))
	clear(c.fids)
	c.mu.Unlock()
	for _, f := range all {
		f.mu.Lock()
		_ = f.end(c)
		f.mu.Unlock()
	}
}
