package p9

import (
	"github.com/byrevm/byre/internal/hostfs"
	"golang.org/x/sys/unix"
)

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
	at, qids, err := follow(f.node, names)
	if err != nil {
		return err
	}
	switch {
	case len(qids) < n:
		at.Unref()
	case newID == id:
		f.node.Unref()
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
func follow(n *hostfs.Node, names []string) (*hostfs.Node, []qid, error) {
	at := n.Ref()
	var qids []qid
	for i, name := range names {
		next, st, err := at.Lookup(name)
		if err != nil {
			if i > 0 {
				break
			}
			at.Unref()
			return nil, nil, err
		}
		at.Unref()
		at = next
		qids = append(qids, qidOf(n.Tree(), &st))
	}
	return at, qids, nil
}
