package virtiofs

import (
	"encoding/binary"
	"errors"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/virtio"
)

// A request is a message of the guest until it is answered. Nobody uses it any
// more when answer has returned.
type request struct {
	s *Server
	c *virtio.Chain

	header
	d decoder // what follows the header, without the data of a WRITE
	e encoder // the answer: room for its header, then what follows

	// Of a READ: where the header goes, and how much data is in the chain
	// behind it.
	cut  bool
	head virtio.Segments
	data int

	in  [smallRequest]byte
	out [smallAnswer]byte
}

const (
	smallRequest = 4608 // a SYMLINK of the longest names
	smallAnswer  = 4608 // a READLINK; an entry
)

var requests = sync.Pool{New: func() any { return new(request) }}

// An operation does what the request r asks, whose members it takes from r.d,
// and puts the answer in r.e. It returns with nothing of a share in use.
type operation func(r *request) error

// errLater is what an operation returns that has somebody call r.answer later.
var errLater = errors.New("answered later")

// operations on files of shares, and of the whole file system.
var operations = [opCount]operation{
	opLookup:        (*request).lookup,
	opForget:        (*request).forget,
	opGetattr:       (*request).getattr,
	opSetattr:       (*request).setattr,
	opReadlink:      (*request).readlink,
	opSymlink:       (*request).symlink,
	opMknod:         (*request).mknod,
	opMkdir:         (*request).mkdir,
	opUnlink:        (*request).unlink,
	opRmdir:         (*request).rmdir,
	opRename:        (*request).rename,
	opLink:          (*request).link,
	opOpen:          (*request).open,
	opRead:          (*request).read,
	opWrite:         (*request).write,
	opStatfs:        (*request).statfs,
	opRelease:       (*request).release,
	opFsync:         (*request).fsync,
	opSetxattr:      (*request).setxattr,
	opGetxattr:      (*request).getxattr,
	opListxattr:     (*request).listxattr,
	opRemovexattr:   (*request).removexattr,
	opFlush:         (*request).flush,
	opInit:          (*request).init,
	opOpendir:       (*request).opendir,
	opReaddir:       (*request).readdir,
	opReleasedir:    (*request).release,
	opFsyncdir:      (*request).fsync,
	opGetlk:         (*request).getlk,
	opSetlk:         (*request).setlk,
	opSetlkw:        (*request).setlkw,
	opCreate:        (*request).create,
	opDestroy:       (*request).destroy,
	opBatchForget:   (*request).batchForget,
	opFallocate:     (*request).fallocate,
	opRename2:       (*request).rename2,
	opLseek:         (*request).lseek,
	opCopyFileRange: (*request).copyFileRange,
	opSyncfs:        (*request).syncfs,
}

// slow has the requests that wait for the disk, or for somebody else. Any other
// may too, but seldom.
var slow = [opCount]bool{
	opStatfs: true, opFsync: true, opFsyncdir: true, opInit: true, opDestroy: true,
	opFallocate: true, opCopyFileRange: true,
}

// serve does what the guest asks, and answers.
func (s *Server) serve(_ int, c *virtio.Chain) {
	r := requests.Get().(*request)
	r.s, r.c = s, c
	if err := r.take(); err != nil {
		c.Fail(err)
		r.free()
		return
	}
	if err := r.do(); !errors.Is(err, errLater) {
		r.answer(err)
	}
}

func (r *request) do() error {
	if r.opcode < opCount && slow[r.opcode] {
		r.c.Yield()
	}
	switch {
	case r.d.bad:
		return unix.EINVAL
	case !r.s.ready.Load() && r.opcode != opInit:
		return unix.EIO
	case r.node == rootID && r.opcode < opCount && !ofServer[r.opcode]:
		return r.root()
	case r.opcode < opCount && operations[r.opcode] != nil:
		return operations[r.opcode](r)
	}
	return unix.ENOSYS // and the guest does not ask again
}

// errHeader ends the device: who sends such a thing is no driver.
type errHeader string

func (e errHeader) Error() string { return "virtio-fs: " + string(e) }

// take copies the request out of the guest's memory.
func (r *request) take() error {
	in := &r.c.In
	if in.Len() < inHeaderSize {
		return errHeader("request without a header")
	}
	total := in.Len()
	if err := in.Take(r.in[:inHeaderSize]); err != nil {
		return err
	}
	d := decoder{b: r.in[:inHeaderSize]}
	r.header = d.header()
	if !r.answered() {
		r.e.b = nil
	} else if r.c.Out.Len() < outHeaderSize {
		return errHeader("no room for an answer")
	} else {
		r.e.b = r.out[:outHeaderSize]
	}
	n := in.Len()
	if r.opcode == opWrite {
		n = min(n, writeInSize)
	}
	if uint64(r.len) != uint64(total) || n > maxArgs {
		r.d = decoder{bad: true}
		return nil
	}
	b := r.in[:]
	if n > len(b) {
		b = make([]byte, n)
	}
	r.d = decoder{b: b[:n:n]}
	return in.Take(r.d.b)
}

// answered reports whether the guest expects an answer.
func (r *request) answered() bool { return r.opcode != opForget && r.opcode != opBatchForget }

// bad is the error of a request that is too short, or too long.
func (r *request) bad() error {
	if r.d.done() {
		return nil
	}
	return unix.EINVAL
}

// answer ends the request: len[4] error[4] unique[8], and what is in r.e.
func (r *request) answer(err error) {
	defer r.free()
	if !r.answered() {
		r.c.Done(0)
		return
	}
	if err == nil && !r.cut && len(r.e.b) > r.c.Out.Len() {
		err = unix.EINVAL // the guest left less room than the answer has
	}
	to := &r.c.Out
	if r.cut {
		to = &r.head
	}
	if err != nil {
		r.e.b, r.data = r.e.b[:outHeaderSize], 0
	}
	b, n := r.e.b, len(r.e.b)+r.data
	binary.LittleEndian.PutUint32(b, uint32(n))
	binary.LittleEndian.PutUint32(b[4:], -errno(err))
	binary.LittleEndian.PutUint64(b[8:], r.unique)
	if err := to.Put(b); err != nil {
		r.c.Fail(err)
		return
	}
	r.c.Done(n)
}

func (r *request) free() {
	r.s, r.c, r.d, r.e = nil, nil, decoder{}, encoder{}
	r.head, r.cut, r.data = virtio.Segments{}, false, 0
	requests.Put(r)
}

// errno returns the number that an error has on the wire, which is negated.
func errno(err error) uint32 {
	var e syscall.Errno
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e) && e != 0 && e < 512: // more would not be one to the guest
		return uint32(e)
	}
	return uint32(unix.EIO)
}
