package bootfiles

import (
	"path"
	"slices"
	"strings"
)

// File types, as in st_mode.
const (
	typeDir  = 0o040000
	typeReg  = 0o100000
	typeLink = 0o120000
	typeChar = 0o020000
)

// A node is one file of the guest's tree.
type node struct {
	path         string // relative
	mode         uint32 // type and permissions
	data         []byte // content, or a link's target
	major, minor uint32
}

func (n *node) typ() uint32 { return n.mode & 0o170000 }

// A tree is a list of files, folders before what is in them, sorted by path.
type tree []node

func newTree(nodes ...node) tree {
	var t tree
	have := map[string]bool{}
	add := func(n node) {
		if !have[n.path] {
			have[n.path] = true
			t = append(t, n)
		}
	}
	for _, n := range nodes {
		add(n)
	}
	for _, n := range nodes {
		for dir := path.Dir(n.path); dir != "."; dir = path.Dir(dir) {
			add(dirNode(dir, 0o755))
		}
	}
	slices.SortFunc(t, func(a, b node) int { return strings.Compare(a.path, b.path) })
	return t
}

func dirNode(path string, perm uint32) node { return node{path: path, mode: typeDir | perm} }

func fileNode(path string, perm uint32, data []byte) node {
	return node{path: path, mode: typeReg | perm, data: data}
}

func linkNode(path, target string) node {
	return node{path: path, mode: typeLink | 0o777, data: []byte(target)}
}

func charNode(path string, perm, major, minor uint32) node {
	return node{path: path, mode: typeChar | perm, major: major, minor: minor}
}

// baseNodes are in every tree: what the kernel and the agent mount on, and the
// streams of a program that the kernel starts.
func baseNodes() []node {
	return []node{
		dirNode("dev", 0o755), dirNode("proc", 0o555), dirNode("sys", 0o555), dirNode("root", 0o700),
		charNode("dev/console", 0o600, 5, 1), charNode("dev/null", 0o666, 1, 3), charNode("dev/kmsg", 0o600, 1, 11),
	}
}

// guestTree is the tree of initrd.img and rootfs.vhd.
func guestTree(k *kernel, ix *index, p programs) tree {
	nodes := append(baseNodes(),
		dirNode("run", 0o755), dirNode("tmp", 0o1777), dirNode("mnt", 0o755), dirNode("var", 0o755),
		linkNode("var/run", "/run"),
		fileNode("etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n")),
		fileNode("etc/group", 0o644, []byte("root:x:0:\nnogroup:x:65534:\n")),
		fileNode("bin/gcs", 0o755, p.agent),
		fileNode("bin/runc", 0o755, p.runtime),
		linkNode("init", "/bin/gcs"),
		linkNode("bin/vsockexec", "/bin/gcs"),
		linkNode("bin/modprobe", "/bin/gcs"),
	)
	return newTree(append(nodes, moduleNodes(k, ix)...)...)
}

// modulesTree is the tree of modules.img.
func modulesTree(k *kernel, ix *index, p programs) tree {
	nodes := append(baseNodes(), fileNode("init", 0o755, p.agent))
	return newTree(append(nodes, moduleNodes(k, ix)...)...)
}

func moduleNodes(k *kernel, ix *index) []node {
	nodes := []node{fileNode(indexPath, 0o644, ix.encode())}
	for _, name := range ix.names {
		m := k.modules[name]
		nodes = append(nodes, fileNode(m.imagePath(), 0o644, m.data))
	}
	return nodes
}
