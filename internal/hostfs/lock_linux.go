package hostfs

import (
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Locks are the locks of parts of files (fcntl) that the processes of a client
// have; O tells the processes apart. To the host each of them is an open file
// description of its own per file: as those of fcntl they count as one owner's,
// by whichever of its files it asks. It lasts until the last of the files that
// it was asked by has ended, or the process has unlocked the whole file.
//
// A Locks is used with its lock held, so that more than one step can be taken.
type Locks[O comparable] struct {
	sync.Mutex

	// Max is how many owners there may be, and how many files of all owners;
	// more are ENOLCK.
	Max int

	owners map[lockKey[O]]*lockOwner[O]
	files  map[*File][]*lockOwner[O] // that an owner was asked by
	held   int                       // files of all owners
}

type lockKey[O comparable] struct {
	file  ID
	owner O
}

type lockOwner[O comparable] struct {
	key      lockKey[O]
	count    *Files
	fd       int
	writable bool
	whole    bool // it has locked no part of the file
	files    []*File
}

func keyOf[O comparable](f *File, owner O) lockKey[O] { return lockKey[O]{f.node.id, owner} }

// Whole reports whether a lock is of all of a file.
func Whole(l unix.Flock_t) bool { return l.Start == 0 && l.Len == 0 }

// Has reports whether owner has asked for locks of the file of f.
func (t *Locks[O]) Has(f *File, owner O) bool { return t.owners[keyOf(f, owner)] != nil }

// Set takes or gives up a lock without waiting: EAGAIN or EACCES means that
// somebody else has it. Where the file cannot be opened for writing
// an exclusive lock is a shared one.
func (t *Locks[O]) Set(f *File, owner O, l unix.Flock_t) error {
	if l.Start < 0 || l.Len < 0 {
		return unix.EINVAL
	}
	o, unlock := t.owners[keyOf(f, owner)], l.Type == unix.F_UNLCK
	if o == nil && unlock {
		return nil
	}
	if o == nil {
		var err error
		if o, err = t.newOwner(f, owner); err != nil {
			return err
		}
	}
	known := slices.Contains(o.files, f)
	err := error(unix.ENOLCK)
	if t.held < t.Max || known || unlock {
		err = o.set(l)
	}
	switch {
	case unlock && Whole(l):
		t.end(o)
	case unlock:
	case err != nil:
		if len(o.files) == 0 {
			t.end(o)
		}
	default:
		o.whole = Whole(l) && (o.whole || len(o.files) == 0)
		if !known {
			o.files = append(o.files, f)
			t.files[f] = append(t.files[f], o)
			t.held++
		}
	}
	return err
}

// Get puts a lock in l that is in owner's way to have l, or the type F_UNLCK.
func (t *Locks[O]) Get(f *File, owner O, l *unix.Flock_t) error {
	if l.Start < 0 || l.Len < 0 {
		return unix.EINVAL
	}
	fd := f.fd
	if o := t.owners[keyOf(f, owner)]; o != nil {
		fd = o.fd
	}
	l.Whence, l.Pid = unix.SEEK_SET, 0
	return again(func() error { return unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, l) })
}

// Drop gives up all locks that owner has of the file of f, and reports whether
// there were any.
func (t *Locks[O]) Drop(f *File, owner O) bool {
	o := t.owners[keyOf(f, owner)]
	if o != nil {
		t.end(o)
	}
	return o != nil
}

// Close is called before a file that locks were asked by is closed. It gives up
// those of owners that have no other file, and returns these.
func (t *Locks[O]) Close(f *File) (ended []O) {
	owners := t.files[f]
	delete(t.files, f)
	for _, o := range owners {
		o.files = slices.DeleteFunc(o.files, func(other *File) bool { return other == f })
		t.held--
		if len(o.files) == 0 {
			t.end(o)
			ended = append(ended, o.key.owner)
		}
	}
	return ended
}

// Sole returns the owners whose lock is of the whole file, and that asked by f
// alone.
func (t *Locks[O]) Sole(f *File) (owners []O) {
	for _, o := range t.files[f] {
		if o.whole && len(o.files) == 1 {
			owners = append(owners, o.key.owner)
		}
	}
	return owners
}

// Give has the locks that from has of the file of f be those of to, who has
// none.
func (t *Locks[O]) Give(f *File, from, to O) {
	o := t.owners[keyOf(f, from)]
	if o == nil || t.Has(f, to) {
		return
	}
	delete(t.owners, o.key)
	o.key.owner = to
	t.owners[o.key] = o
}

func (t *Locks[O]) newOwner(f *File, owner O) (*lockOwner[O], error) {
	if len(t.owners) >= t.Max {
		return nil, unix.ENOLCK
	}
	o := &lockOwner[O]{key: keyOf(f, owner), count: f.node.tree.files}
	var err error
	if f.node.tree.Writable() == nil {
		o.fd, err = o.count.reopen(f.fd, unix.O_RDWR)
		o.writable = err == nil
	}
	if !o.writable {
		if o.fd, err = o.count.reopen(f.fd, unix.O_RDONLY); err != nil {
			return nil, err
		}
	}
	if t.owners == nil {
		t.owners = make(map[lockKey[O]]*lockOwner[O])
		t.files = make(map[*File][]*lockOwner[O])
	}
	t.owners[o.key] = o
	return o, nil
}

// set takes or gives up a lock without waiting.
func (o *lockOwner[O]) set(l unix.Flock_t) error {
	if l.Type == unix.F_WRLCK && !o.writable {
		l.Type = unix.F_RDLCK
	}
	l.Whence, l.Pid = unix.SEEK_SET, 0
	return again(func() error { return unix.FcntlFlock(uintptr(o.fd), unix.F_OFD_SETLK, &l) })
}

// end closes the description of an owner and with it all its locks.
func (t *Locks[O]) end(o *lockOwner[O]) {
	for _, f := range o.files {
		left := slices.DeleteFunc(t.files[f], func(other *lockOwner[O]) bool { return other == o })
		if t.files[f] = left; len(left) == 0 {
			delete(t.files, f)
		}
	}
	t.held -= len(o.files)
	delete(t.owners, o.key)
	o.count.drop(o.fd)
}
