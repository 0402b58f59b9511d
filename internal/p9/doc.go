// Package p9 serves folders of a Linux host to the kernel of a guest, by the
// protocol 9P2000.L.
//
// A [Server] has shares, each under a name that a client gives when it
// attaches. The client is not trusted: it may send anything, at any time, on as
// many connections as it likes. What it can do to a folder is what
// [github.com/byrevm/byre/internal/hostfs] lets it; here is the protocol.
//
//   - Nothing outside a share's folder is reached. A fid is a descriptor of the
//     file itself (O_PATH), got by one openat2 per name with RESOLVE_BENEATH;
//     no path is resolved twice, no symbolic link is ever followed (a link is
//     text for the client to follow on its side), and "..", "." and names with
//     a slash are refused. Who moves a folder out of a share while the client
//     holds a fid of it has moved what the client sees.
//   - Only regular files, folders and symbolic links can be opened or made.
//     Device nodes, FIFOs and sockets that are there can be seen, renamed,
//     linked and removed; opening or making one is EPERM.
//   - A share that is read-only, or limited to some names of its folder, is so
//     by the server, whatever the client asks.
//   - Fids, descriptors, connections, messages, requests under way and the
//     memory for them are bounded, see [Config].
//
// New files belong to the user that the client names when it attaches and to
// the group that it names with each file, if the server may give files away.
// One that may not keeps them for itself. Modes are what the client says,
// whatever the umask of the process. Permission is checked by the client's
// kernel, as that of a local file system does; against the host the share as a
// whole is the unit of trust.
//
// Locks of a client's processes are locks of open file descriptions (fcntl with
// F_OFD_SETLK) on the host: they exclude each other, those of other clients,
// and those of the host's programs that use fcntl. The protocol does not tell
// flock from fcntl; both are these. A lock of a whole file goes from one process
// to another that locks the file by the same fid, as one of flock does. Where
// the server cannot open a file for writing an exclusive lock is a shared one.
//
// Extended attributes are user.*, the POSIX ACLs and security.capability. The
// others, such as trusted.overlay.*, steer the host's kernel and stay hidden.
//
//	s := p9.NewServer(p9.Config{})
//	if err := s.Add(p9.Share{Name: "src", Path: "/home/me/src", ReadOnly: true}); err != nil {
//		return err
//	}
//	defer s.Close()
//	return s.Serve(ctx, listener)
package p9
