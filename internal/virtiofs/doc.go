// Package virtiofs serves folders of a Linux host to the kernel of a guest, by
// the protocol FUSE over the queues of a virtio-fs device.
//
// A [Server] is the device of one VM. It has shares, which are the entries of
// the root of its file system, a folder that is made up; shares come and go
// while the guest has that mounted.
//
//	s := virtiofs.New(conn, virtiofs.Config{}) // conn: the other end of QEMU's chardev
//	if err := s.Add(hostfs.Share{Name: "src", Path: "/home/me/src"}); err != nil {
//		return err
//	}
//	...
//	s.Close()
//
// # Trust
//
// Nothing of the guest is believed: it may send anything, at any time, and
// change it while it is looked at. What is not data of a file is copied out of
// the guest's memory once, and then checked; data goes by one system call
// between the file and that memory. A message that makes no sense is an error
// for the guest alone; one without a header, or that leaves no room for an
// answer, ends the device.
//
// What a guest reaches is up to package hostfs: nothing outside of a share's
// folder, only regular files, folders and symbolic links, read-only shares and
// names that are allowed. Here is what it can make the host keep: nodes,
// handles, descriptors and requests under way are bounded, see [Config], and so
// is the work of each request. Numbers of nodes and of handles are never used
// twice, so that none of a share that was removed, or of a driver that ran
// before, leads to another file.
//
// Permission is checked by the guest's kernel (default_permissions), as that of
// a local file system is, and new files belong to the user and the group that
// it names; against the host the share as a whole is the unit of trust.
//
// # Nodes
//
// A node is a file that the guest knows by a number, as long as the guest
// counts it among what it has looked up. It is found again by what the file is
// (device, inode, time of birth), so that all names of a file lead to one node.
// It keeps a descriptor of the file while there is room for it; one that lost it
// gets it again by the names that lead there from the folder of the share, if
// the file is still there. Where it is not, and where the node itself was
// forgotten as there are too many, the answer is ESTALE, and the guest looks up
// its names again. On a file system that does not say when a file came to be, one
// that got the number of another, which had lost its descriptor, is taken for it.
//
// # Locks of files
//
// flock is the host's flock on the file of the handle. Locks of fcntl are those
// of an open file description on the host per file and process of the guest;
// programs of the host see both. Where the host does not let the server write to
// a file, what the guest locks for one alone is so in the guest, and shared on
// the host. Deadlocks are not found.
//
// The guest's kernel can neither interrupt who waits for a lock nor let it die:
// [Server.Waiting] says who waits, so that somebody who knows of the guest's
// signals can call [Server.Interrupt]. Beyond 896 who wait the answer is ENOLCK,
// as the ring must have room for who gives a lock up.
//
// # Attributes
//
// Extended attributes are those of package hostfs. INIT does not agree on POSIX
// ACLs: the guest can read and set them, and its permissions are those of the
// mode, of which the mask of a list is the group's part. Only root and the owner
// of a file may set them, which the guest's kernel leaves to the server.
//
// # What is not done
//
// No cache of the guest outlives a millisecond without asking the host, as
// programs of the host change the same files: so no writeback cache, no
// READDIRPLUS. There is no memory window (DAX), no ACCESS, no IOCTL, no POLL, no
// O_TMPFILE, and no notification of the guest, of which this transport has none.
// Device nodes, FIFOs and sockets cannot be made.
//
// # Locks
//
// Server.mu guards the tables and is held for moments, never in a system call
// on a file of a share.
package virtiofs
