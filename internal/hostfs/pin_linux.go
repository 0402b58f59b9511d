package hostfs

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// released is what users is less by while the descriptor is given up.
const released = 1 << 40

// ErrReleased is ESTALE of a node whose descriptor was given up.
var ErrReleased = fmt.Errorf("the descriptor of the file was given up: %w", unix.ESTALE)

// use returns the descriptor, which stays until done is called.
func (n *Node) use() (int, error) {
	switch {
	case n.tree.gone.Load():
		return -1, unix.ESTALE
	case !n.Pin():
		return -1, ErrReleased
	}
	return n.fd, nil
}

func (n *Node) done() { n.users.Add(-1) }

// Pin keeps the node's descriptor until Unpin is called. It is false, and
// nothing is kept, if the descriptor was given up before: see [Node.Reacquire].
func (n *Node) Pin() bool {
	if n.users.Add(1) > 0 {
		return true
	}
	n.users.Add(-1)
	return false
}

// Unpin is called once for each Pin that was true, and each Reacquire without
// error.
func (n *Node) Unpin() { n.done() }

// Release gives the descriptor up, if there is one and nobody needs it now, and
// reports whether it did so. Methods that need it fail with [ErrReleased] from
// then on. The folder of the tree keeps its own.
func (n *Node) Release() bool {
	if n == n.tree.root {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.users.CompareAndSwap(0, -released) {
		return false
	}
	n.tree.files.drop(n.fd)
	n.fd = -1
	return true
}

// Reacquire gets a descriptor that was given up back, by the name that the file
// has in a folder, and pins it. If it is there, it is only pinned. If the name
// is no more this file's the error is ESTALE.
func (n *Node) Reacquire(parent *Node, name string) error {
	if n.Pin() {
		return nil
	}
	if parent.tree != n.tree {
		return unix.EXDEV
	}
	fd, err := parent.beneath(name)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return unix.ESTALE
	}
	if err != nil {
		return err
	}
	id, _, err := identify(fd)
	if err == nil && id != n.id {
		err = unix.ESTALE
	}
	if err != nil {
		n.tree.files.drop(fd)
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.Pin() { // somebody else was faster
		n.tree.files.drop(fd)
		return nil
	}
	n.fd = fd
	n.users.Add(released + 1)
	return nil
}
