// Package p9 serves folders of a Linux host to the kernel of a guest, by the
// protocol 9P2000.L.
//
// A [Server] has shares, each under a name that a client gives when it
// attaches. The client is not trusted: it may send anything, at any time, on as
// many connections as it likes. What it can reach and change, by which names,
// and that a share is read-only or limited to some names, is said by package
// [github.com/byrevm/byre/internal/hostfs]; a fid is a node of it, and perhaps
// an open file. Fids, descriptors, connections, messages, requests under way
// and the memory for them are bounded, see [Config].
//
// New files belong to the user that the client names when it attaches and to
// the group that it names with each file.
//
// Locks of a client's processes exclude each other, those of other clients, and
// those of the host's programs that use fcntl. The protocol does not tell flock
// from fcntl; both are fcntl's. A lock of a whole file goes from one process to
// another that locks the file by the same fid, as one of flock does.
//
//	s := p9.NewServer(p9.Config{})
//	if err := s.Add(p9.Share{Name: "src", Path: "/home/me/src", ReadOnly: true}); err != nil {
//		return err
//	}
//	defer s.Close()
//	return s.Serve(ctx, listener)
package p9
