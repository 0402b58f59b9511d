package p9

import "golang.org/x/sys/unix"

// walk: fid[4] newfid[4] nwname[2] nwname*(wname[s]) -> nwqid[2] nwqid*(qid[13])
//
// With no names newfid is a copy of fid. With names it is the file that they
// lead to; if only the first of them do, the answer has their qids and there
// is no newfid.
func (r *request) walk() error {
	id, newID, n := r.d.u32(), r.d.u32(), int(r.d.u16())
	if n > maxWalk {
		return unix.EINVAL
	}
	names := make([]string, n)
	for i := range names {
		names[i] = r.d.str()
	}
	if err := r.bad(); err != nil {
		return err
	}
	get := r.c.use
	if newID == id {
		get = r.c.change
	}
	f, release, err := get(id)
	if err != nil {
		return err
	}
	defer release()
	if f.xattr != nil || newID == id && f.file != nil {
		return unix.EBADF
	}
	at, qids, err := f.sh.follow(f.node, names)
	if err != nil {
		return err
	}
	switch {
	case len(qids) < n:
		at.unref()
	case newID == id:
		f.node.unref()
		f.node = at
	default:
		if err := r.c.insert(&fid{id: newID, uid: f.uid, sh: f.sh, node: at}); err != nil {
			return err
		}
	}
	r.e.u16(uint16(len(qids)))
	for _, q := range qids {
		r.e.qid(q)
	}
	return nil
}

// follow goes from n as far as names lead. The caller has a reference to the
// node that it returns. It is an error if the first name leads nowhere.
func (sh *share) follow(n *node, names []string) (*node, []qid, error) {
	at := n.ref()
	var qids []qid
	for i, name := range names {
		next, q, err := sh.step(at, name)
		if err != nil {
			if i > 0 {
				break
			}
			at.unref()
			return nil, nil, err
		}
		at.unref()
		at = next
		qids = append(qids, q)
	}
	return at, qids, nil
}

func (sh *share) step(at *node, name string) (*node, qid, error) {
	if !sh.sees(at, name) {
		return nil, qid{}, unix.ENOENT
	}
	next, err := at.lookup(name)
	if err != nil {
		return nil, qid{}, err
	}
	_, q, err := next.stat(sh)
	if err != nil {
		next.unref()
		return nil, qid{}, err
	}
	return next, q, nil
}
