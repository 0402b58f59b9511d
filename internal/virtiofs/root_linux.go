package virtiofs

import (
	"slices"

	"golang.org/x/sys/unix"
)

// ofServer are the operations that do not ask for a file.
var ofServer = [opCount]bool{
	opInit: true, opDestroy: true, opForget: true, opBatchForget: true, opInterrupt: true,
	opSyncfs: true,
}

// rootOperations are those on the root of the file system, which is made up: a
// folder that has the shares.
var rootOperations = [opCount]operation{
	opLookup:     (*request).rootLookup,
	opGetattr:    (*request).rootGetattr,
	opStatfs:     (*request).rootStatfs,
	opOpendir:    (*request).rootOpendir,
	opReaddir:    (*request).rootReaddir,
	opReleasedir: (*request).nothing,
	opFsyncdir:   (*request).nothing,
	opGetxattr:   (*request).noXattr,
	opListxattr:  (*request).noXattr,
}

// rootChanges are operations that would change it.
var rootChanges = [opCount]bool{
	opSetattr: true, opSymlink: true, opMknod: true, opMkdir: true, opUnlink: true, opRmdir: true,
	opRename: true, opRename2: true, opLink: true, opCreate: true, opSetxattr: true, opRemovexattr: true,
}

func (r *request) root() error {
	switch do := rootOperations[r.opcode]; {
	case do != nil:
		return do(r)
	case rootChanges[r.opcode]:
		return unix.EROFS
	case r.opcode == opOpen:
		return unix.EISDIR
	case operations[r.opcode] == nil:
		return unix.ENOSYS
	}
	return unix.EBADF // what has a handle, which there is none of
}

func (r *request) nothing() error { return nil }

func (r *request) noXattr() error { return unix.EOPNOTSUPP }

// rootLookup: name -> entryOut. The name is asked for each time, as shares come
// and go.
func (r *request) rootLookup() error {
	name := r.d.name()
	if err := r.bad(); err != nil {
		return err
	}
	n, ok := r.s.shareRoot(name)
	if !ok {
		return unix.ENOENT
	}
	u, err := r.s.use(n)
	if err != nil {
		return unix.ENOENT //nolint:nilerr // it was just removed
	}
	defer u.release()
	st, err := u.file.Stat()
	if err != nil {
		return err
	}
	if !r.s.seen(u.n) {
		return unix.ENOENT
	}
	r.e.entryOut(u.n, &st, 0)
	return nil
}

func (s *Server) shareRoot(name string) (id uint64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.shares[name]
	if sh == nil {
		return 0, false
	}
	return sh.root.id, true
}

func (s *Server) rootStat() *unix.Stat_t {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &unix.Stat_t{Mode: unix.S_IFDIR | 0o555, Blksize: 4096}
	st.Nlink = 2
	for range s.shares {
		st.Nlink++
	}
	return st
}

// rootGetattr: as getattr. The answer holds for no time.
func (r *request) rootGetattr() error {
	r.e.zero(16)
	r.e.attr(rootID, r.s.rootStat())
	return nil
}

// rootStatfs: as statfs
func (r *request) rootStatfs() error {
	r.e.statfs(&unix.Statfs_t{Bsize: 4096, Frsize: 4096})
	return nil
}

// rootOpendir: as opendir. There is nothing to keep, so that all handles are
// zero.
func (r *request) rootOpendir() error {
	r.e.zero(16)
	return nil
}

// rootReaddir: as readdir. The offset of an entry is 1 or 2 for the folder itself
// and what is above, and 2 more than the share's number.
func (r *request) rootReaddir() error {
	_, off, size, err := r.readdirIn()
	if err != nil {
		return err
	}
	for i := off; i < 2; i++ {
		if !r.e.dirent(size, rootID, i+1, unix.DT_DIR, []byte("..")[:i+1]) {
			return r.someEntries()
		}
	}
	for _, sh := range r.s.sharesAfter(off) {
		ino := sh.inode(sh.root.file.Ino())
		if !r.e.dirent(size, ino, sh.number+2, unix.DT_DIR, []byte(sh.tree.Name)) {
			return r.someEntries()
		}
	}
	return nil
}

func (r *request) someEntries() error {
	if len(r.e.b) == outHeaderSize {
		return unix.EINVAL
	}
	return nil
}

// sharesAfter returns the shares whose entries are behind off, in order.
func (s *Server) sharesAfter(off uint64) []*share {
	s.mu.Lock()
	defer s.mu.Unlock()
	var after []*share
	for _, sh := range s.shares {
		if sh.number+2 > off {
			after = append(after, sh)
		}
	}
	slices.SortFunc(after, func(a, b *share) int { return int(a.number) - int(b.number) })
	return after
}
