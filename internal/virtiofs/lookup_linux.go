package virtiofs

import (
	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/hostfs"
)

// lookup: name -> entryOut
func (r *request) lookup() error {
	name := r.d.name()
	if err := r.bad(); err != nil {
		return err
	}
	dir, err := r.s.use(r.node)
	if err != nil {
		return err
	}
	defer dir.release()
	// Mostly the guest asks whether what it knows is still there.
	if known := r.s.named(dir.n, name); known != nil {
		id, st, err := dir.file.Identify(name)
		if err != nil {
			return err
		}
		if id == known.file.ID() && r.s.seen(known) {
			r.e.entryOut(known, &st, valid)
			return nil
		}
	}
	r.s.room()
	f, st, err := dir.file.Lookup(name)
	if err != nil {
		return err
	}
	return r.enter(dir.n, name, f, &st)
}

// enter tells the guest of the file name in the folder dir. It takes f over.
func (r *request) enter(dir *node, name string, f *hostfs.Node, st *unix.Stat_t) error {
	n, err := r.s.found(dir, name, f)
	if err != nil {
		return err
	}
	r.e.entryOut(n, st, valid)
	return nil
}

// forget: nlookup[8]. It has no answer.
func (r *request) forget() error {
	n := r.d.u64()
	if err := r.bad(); err != nil {
		return err
	}
	r.s.forget(r.node, n)
	return nil
}

// batchForget: count[4] dummy[4] count*(nodeid[8] nlookup[8]). It has no answer.
func (r *request) batchForget() error {
	count, _ := r.d.u32(), r.d.u32()
	if r.d.bad || uint64(len(r.d.b)) != 16*uint64(count) {
		return unix.EINVAL
	}
	for range count {
		id := r.d.u64()
		r.s.forget(id, r.d.u64())
	}
	return nil
}

// readlink: nothing -> the target, without a NUL
func (r *request) readlink() error {
	if err := r.bad(); err != nil {
		return err
	}
	u, err := r.s.use(r.node)
	if err != nil {
		return err
	}
	defer u.release()
	target, err := u.file.Readlink()
	if err != nil {
		return err
	}
	r.e.b = append(r.e.b, target...)
	return nil
}
