// Package hostfs is the folders of a Linux host as servers of files reach
// them: the part of such a server that is the same whatever protocol its
// clients speak.
//
// A [Tree] is a folder that is shared. A [Node] is a file in it, by a
// descriptor that stands for the file and not for its name. A [File] is one
// that is open. What clients ask is not trusted:
//
//   - Nothing outside a tree is reached. A node is got by one openat2 of one
//     name with RESOLVE_BENEATH; no path is resolved twice, no symbolic link is
//     ever followed (a link is text for the client to follow on its side), and
//     "..", "." and names with a slash are refused. Who moves a folder out of a
//     tree while a client has its node has moved what the client sees.
//   - Only regular files, folders and symbolic links can be opened or made.
//     Device nodes, FIFOs and sockets that are there can be seen, renamed,
//     linked and removed; opening or making one is EPERM.
//   - A tree that is read-only, or limited to some names of its folder, is so
//     here, whatever the server asks.
//   - Descriptors are counted, see [Files]. A node can give up its own while
//     nobody needs it, and get it back, see [Node.Release].
//
// New files belong to whom the server says, if the process may give files away;
// one that may not keeps them for itself. Modes are what the server says,
// whatever the umask of the process. Permission is checked by the client's
// kernel, as that of a local file system does; against the host the tree as a
// whole is the unit of trust.
//
// Locks of a client's processes are locks of open file descriptions (fcntl with
// F_OFD_SETLK), see [Locks], or of flock: they exclude each other, those of
// other clients, and those of the host's programs.
//
// Extended attributes are user.*, the POSIX ACLs and security.capability. The
// others, such as trusted.overlay.*, steer the host's kernel and stay hidden.
//
//	files := hostfs.NewFiles(0)
//	tree, err := files.Open(hostfs.Share{Name: "src", Path: "/home/me/src", ReadOnly: true})
//	if err != nil {
//		return err
//	}
//	defer tree.Close()
//	node, st, err := tree.Root().Lookup("go.mod")
package hostfs
