package p9

import (
	"context"
	"sync"

	"golang.org/x/sys/unix"
)

// A request is a message of the client from its first byte to the last byte
// of the answer. A worker uses the same one again and again.
type request struct {
	c   *conn
	typ uint8
	tag uint16
	d   decoder // the message after its header

	small [maxRequest]byte // the message, if it is short
	out   [maxAnswer]byte  // the answer, if it is short
	data  buffer           // memory for a long one, either way
	e     encoder          // the answer, as far as it is made

	waits    bool       // a tFlush that another request will answer
	flushers []*request // guarded by conn.mu

	flushOnce *sync.Once // guards the closing of flushed
	flushed   chan struct{}
}

// maxAnswer is enough for the longest answer without data, a link's text, and
// for that of a short read.
const maxAnswer = 4608

func (r *request) reset(typ uint8, tag uint16) {
	r.typ, r.tag, r.d, r.e = typ, tag, decoder{}, encoder{}
	r.waits, r.flushers = false, nil
	r.flushOnce, r.flushed = nil, nil
	if typ == tLock {
		r.flushOnce, r.flushed = new(sync.Once), make(chan struct{})
	}
}

// flush tells a request that the client does not want it any more. c.mu is
// held.
func (r *request) flush() {
	if r.flushOnce != nil {
		r.flushOnce.Do(func() { close(r.flushed) })
	}
}

// An operation serves the request r, whose members it takes from r.d, and
// puts what it answers in r.e. It returns with nothing of the share in use.
type operation func(r *request) error

var operations = [256]operation{
	tStatfs:      (*request).statfs,
	tLopen:       (*request).lopen,
	tLcreate:     (*request).lcreate,
	tSymlink:     (*request).symlink,
	tMknod:       (*request).mknod,
	tReadlink:    (*request).readlink,
	tGetattr:     (*request).getattr,
	tSetattr:     (*request).setattr,
	tXattrwalk:   (*request).xattrwalk,
	tXattrcreate: (*request).xattrcreate,
	tReaddir:     (*request).readdir,
	tFsync:       (*request).fsync,
	tLock:        (*request).lock,
	tGetlock:     (*request).getlock,
	tLink:        (*request).link,
	tMkdir:       (*request).mkdir,
	tRenameat:    (*request).renameat,
	tUnlinkat:    (*request).unlinkat,
	tVersion:     (*request).version,
	tAttach:      (*request).attach,
	tFlush:       (*request).flushDone,
	tWalk:        (*request).walk,
	tRead:        (*request).read,
	tWrite:       (*request).write,
	tClunk:       (*request).clunk,
	tRemove:      (*request).remove,
}

// slow reports whether a request is one that waits: for the disk, for another
// client, or until this one has taken a long answer. Any other may too, but
// seldom.
func (r *request) slow() bool {
	switch r.typ {
	case tLock, tFsync, tVersion, tStatfs:
		return true
	case tRead:
		d := r.d
		d.bytes(4 + 8)
		return d.u32() > shortRead
	}
	return false
}

// shortRead is the longest read whose answer the client is thought to have room
// for at once.
const shortRead = 32 << 10

// serve does what the client asks and answers. An error ends the connection.
func (r *request) serve() error {
	defer r.data.put(r.c)
	if r.waits {
		return nil
	}
	r.e.begin(r.out[:0], r.typ+1, r.tag)
	do := operations[r.typ]
	var err error
	if do == nil {
		err = unix.EOPNOTSUPP
	} else {
		err = do(r)
	}
	if err != nil {
		if cause := context.Cause(r.c.ctx); cause != nil {
			return cause
		}
		r.e.begin(r.out[:0], rLerror, r.tag)
		r.e.u32(errno(err))
	}
	return r.c.answer(r, r.e.finish())
}

// bad is the error of a message that is too short, or too long.
func (r *request) bad() error {
	if r.d.done() {
		return nil
	}
	return unix.EINVAL
}

// version: msize[4] version[s] -> msize[4] version[s]
func (r *request) version() error {
	msize, v := r.d.u32(), r.d.str()
	if err := r.bad(); err != nil {
		return err
	}
	if msize < minMessage {
		return unix.EINVAL
	}
	r.c.reset()
	r.e.u32(uint32(r.c.msize.Load())) // set where it was read
	if v != version {
		v = "unknown"
	}
	r.e.str(v)
	return nil
}

// attach: fid[4] afid[4] uname[s] aname[s] n_uname[4] -> qid[13]
func (r *request) attach() error {
	id, afid := r.d.u32(), r.d.u32()
	_, aname, uid := r.d.str(), r.d.str(), r.d.u32()
	if err := r.bad(); err != nil {
		return err
	}
	if afid != noFid {
		return unix.EOPNOTSUPP
	}
	sh, root, err := r.c.s.attach(aname)
	if err != nil {
		return err
	}
	st, err := root.Stat()
	if err != nil {
		root.Unref()
		return err
	}
	if err := r.c.insert(&fid{id: id, uid: uid, sh: sh, node: root}); err != nil {
		return err
	}
	r.e.qid(qidOf(sh, &st))
	return nil
}

// flushDone: oldtag[2] -> nothing. The request with that tag has been
// answered, if there ever was one.
func (r *request) flushDone() error {
	r.d.u16()
	return r.bad()
}

// clunk: fid[4] -> nothing. The fid is gone even if there is an error.
func (r *request) clunk() error {
	id := r.d.u32()
	if err := r.bad(); err != nil {
		return err
	}
	f, err := r.c.remove(id)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	err = f.setXattr()
	if cerr := f.end(r.c); err == nil {
		err = cerr
	}
	return err
}

// remove: fid[4] -> nothing. A fid does not know its name, so that the client
// must use tUnlinkat, as every Linux does; but the fid is gone.
func (r *request) remove() error {
	if err := r.clunk(); err != nil {
		return err
	}
	return unix.EOPNOTSUPP
}
