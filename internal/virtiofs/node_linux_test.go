package virtiofs

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/hostfs"
)

// counts returns how many nodes there are, and how many have a descriptor, those
// of shares included. What the lists say must be so.
func (g *guest) counts() (nodes, open int) {
	g.t.Helper()
	s := g.s
	s.mu.Lock()
	defer s.mu.Unlock()
	children := make(map[*node]int)
	for id, n := range s.nodes {
		if n.id != id || n.dead || s.files[n.key()] != n {
			g.t.Errorf("node %d: %+v", id, n)
		}
		if n.open {
			open++
		}
		if n.parent != nil {
			if n.parent.dead || s.names[n.nameKey()] != n {
				g.t.Errorf("node %d is not at its name", id)
			}
			children[n.parent]++
		}
		spare := n.handles == 0 && !n.isRoot()
		if (n.warm != nil) != (spare && n.open && n.parent != nil) || (n.idle != nil) != (spare && n.children == 0) {
			g.t.Errorf("node %d is in the wrong list", id)
		}
	}
	named := 0
	for _, n := range s.nodes {
		if n.children != children[n] {
			g.t.Errorf("node %d has %d children, and not %d", n.id, children[n], n.children)
		}
		named += children[n]
	}
	if open != s.open || named != len(s.names) || len(s.files) != len(s.nodes) {
		g.t.Errorf("%d open, and not %d; %d names, and not %d", open, s.open, named, len(s.names))
	}
	return len(s.nodes), open
}

func (g *guest) forget(e entry, n uint64) { g.tell(opForget, e.node, n) }

func TestForget(t *testing.T) {
	g := newGuest(t, Config{}, source(t, "a/b/c", "text"))
	a, b, c := g.walk("src", "a"), g.walk("src", "a", "b"), g.walk("src", "a", "b", "c")
	if again := g.walk("src", "a", "b", "c"); again.node != c.node {
		t.Errorf("one file is nodes %d and %d", c.node, again.node)
	}
	g.forget(c, 1)
	if n, _ := g.counts(); n != 4 {
		t.Errorf("%d nodes", n)
	}
	g.forget(a, 100) // of what is above others, and more than there was
	g.forget(b, 100)
	if n, _ := g.counts(); n != 4 {
		t.Errorf("%d nodes, of which one is known", n)
	}
	g.tell(opBatchForget, 0, uint32(3), uint32(0), c.node, uint64(1), uint64(12345), uint64(1), uint64(rootID), uint64(1))
	if n, open := g.counts(); n != 1 || open != 1 {
		t.Errorf("%d nodes, %d open, want the share's", n, open)
	}
	_, err := g.getattr(c.node)
	wantErr(t, "GETATTR of what was forgotten", err, unix.ESTALE)
	// What lies is not believed.
	a = g.walk("src", "a")
	g.tell(opBatchForget, 0, uint32(1<<31), uint32(0), a.node, uint64(1))
	g.tell(opBatchForget, 0, uint32(2), uint32(0), a.node, uint64(1))
	g.tell(opForget, a.node)
	if _, err := g.getattr(a.node); err != nil {
		t.Error(err)
	}
	// An open file outlives what the guest knows of it.
	c = g.walk("src", "a", "b", "c")
	fh := g.open(c.node, unix.O_RDONLY)
	g.forget(c, 1)
	if got, err := g.read(c.node, fh, 0, 4); got != "text" || err != nil {
		t.Errorf("READ: %q, %v", got, err)
	}
	g.close(c.node, fh)
	_, err = g.getattr(c.node)
	wantErr(t, "GETATTR after the last", err, unix.ESTALE)
	src := g.walk("src")
	g.forget(src, 1000)
	if _, err := g.getattr(src.node); err != nil {
		t.Error("the folder of a share was forgotten:", err)
	}
}

func TestDescriptors(t *testing.T) {
	var files []string
	for i := range 20 {
		files = append(files, fmt.Sprintf("d/e%d/f", i), fmt.Sprint(i))
	}
	sh := source(t, files...)
	g := newGuest(t, Config{MaxOpen: 5}, sh)
	var f []entry
	for i := range 20 {
		f = append(f, g.walk("src", "d", fmt.Sprint("e", i), "f"))
	}
	if n, open := g.counts(); n != 42 || open != 5 {
		t.Errorf("%d nodes, %d open", n, open)
	}
	if n := g.s.config.Files.Held(); n != 5 {
		t.Errorf("%d descriptors", n)
	}
	for i, f := range f {
		a, err := g.getattr(f.node)
		if err != nil || a.ino != f.ino {
			t.Errorf("%d: %+v, %v", i, a, err)
		}
	}
	// The last that was used is not the first to go.
	if !g.s.nodes[f[19].node].open || g.s.nodes[f[0].node].open {
		t.Error("not the least recently used one was closed")
	}
	// What has a handle keeps its descriptor, also with its name gone.
	fh := g.open(f[3].node, unix.O_RDWR)
	g.must(g.call(opUnlink, g.walk("src", "d", "e3").node, "f"))
	for _, f := range f[4:] {
		if _, err := g.getattr(f.node); err != nil {
			t.Error(err)
		}
	}
	if a, err := g.getattr(f[3].node); err != nil || a.nlink != 0 {
		t.Errorf("an open file without a name: %+v, %v", a, err)
	}
	if got, err := g.read(f[3].node, fh, 0, 5); got != "3" || err != nil {
		t.Errorf("READ: %q, %v", got, err)
	}
	g.counts()
	g.close(f[3].node, fh)

	// The guest renames what it has.
	g.must(g.call(opRename, g.walk("src", "d").node, g.walk("src").node, "e5", "moved"))
	g.must(g.call(opRename2, g.walk("src", "moved").node, g.walk("src", "d", "e6").node, uint32(0), uint32(0), "f", "g"))
	g.must(g.call(opRename2, g.walk("src", "d", "e7").node, g.walk("src", "d", "e8").node, uint32(unix.RENAME_EXCHANGE), uint32(0), "f", "f"))
	for i := 10; i < 20; i++ {
		if _, err := g.getattr(f[i].node); err != nil {
			t.Error(err)
		}
	}
	if _, open := g.counts(); open != 5 {
		t.Errorf("%d open", open)
	}
	for _, i := range []int{5, 6, 7, 8} {
		if g.s.nodes[f[i].node].open {
			t.Errorf("%d is still open", i)
		}
		fh := g.open(f[i].node, unix.O_RDONLY)
		if got, err := g.read(f[i].node, fh, 0, 5); got != fmt.Sprint(i) || err != nil {
			t.Errorf("%d: %q, %v", i, got, err)
		}
		g.close(f[i].node, fh)
	}
	if e := g.walk("src", "d", "e8", "f"); e.node != f[7].node {
		t.Error("what was exchanged is another node")
	}
}

// TestNoRoom checks that what is open keeps its descriptor where nodes may have
// none, so that it can lose its name.
func TestNoRoom(t *testing.T) {
	g := newGuest(t, Config{MaxOpen: 1}, source(t, "there", ""))
	src := g.walk("src")
	f, _ := g.create(src.node, "f", unix.O_RDWR, 0o600)
	there, _ := g.create(src.node, "there", unix.O_RDWR, 0o600)
	open := g.lookup(src.node, "there")
	g.open(open.node, unix.O_RDONLY)
	for _, name := range []string{"f", "there"} {
		g.must(g.call(opUnlink, src.node, name))
	}
	for _, e := range []entry{f, there, open} {
		if a, err := g.getattr(e.node); err != nil || a.nlink != 0 {
			t.Errorf("%+v, %v", a, err)
		}
	}
	g.counts()
}

// TestHostRenames has the host move and replace files that have no descriptor.
func TestHostRenames(t *testing.T) {
	sh := source(t, "d/a", "one", "d/b", "two", "d/c", "three", "d/e/f", "four", "z", "")
	at := func(name string) string { return filepath.Join(sh.Path, name) }
	g := newGuest(t, Config{MaxOpen: 1}, sh)
	a, b, c, e := g.walk("src", "d", "a"), g.walk("src", "d", "b"), g.walk("src", "d", "c"), g.walk("src", "d", "e", "f")
	d := g.walk("src", "d")
	z := g.walk("src", "z")
	_ = z
	for _, err := range []error{
		os.Rename(at("d/a"), at("d/moved")),                                            // away
		os.WriteFile(at("new"), []byte("new"), 0o600), os.Rename(at("new"), at("d/b")), // replaced
		os.Remove(at("d/c")), os.WriteFile(at("d/c"), []byte("again"), 0o600), // made anew, maybe by the same number
		os.Rename(at("d/e"), at("d/g")), os.Symlink("g", at("d/e")), // a link in between
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, n := range []entry{a, b, c, e} {
		_, err := g.getattr(n.node)
		wantErr(t, fmt.Sprint("GETATTR ", i), err, unix.ESTALE)
	}
	if again := g.lookup(d.node, "moved"); again.node != a.node {
		t.Error("a file that was moved is another node")
	}
	if _, err := g.getattr(a.node); err != nil {
		t.Error("after LOOKUP:", err)
	}
	for _, x := range []struct {
		name string
		was  entry
	}{{"b", b}, {"c", c}} {
		if again := g.lookup(d.node, x.name); again.node == x.was.node {
			t.Errorf("another file by the name %s is the same node", x.name)
		}
		_, err := g.getattr(x.was.node)
		wantErr(t, x.name, err, unix.ESTALE)
	}
	if l := g.lookup(d.node, "e"); l.mode&unix.S_IFMT != unix.S_IFLNK {
		t.Errorf("mode %#o", l.mode)
	}
	if f := g.walk("src", "d", "g", "f"); f.node != e.node {
		t.Error("a file whose folder was moved is another node")
	}
	g.counts()
}

// TestNumberUsedAgain checks that a file which has the number of one that was
// removed is not taken for that.
func TestNumberUsedAgain(t *testing.T) {
	sh := source(t)
	path := filepath.Join(sh.Path, "f")
	g := newGuest(t, Config{MaxOpen: 1}, sh)
	src := g.walk("src")
	for range 1000 {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		f := g.lookup(src.node, "f")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		if again := g.lookup(src.node, "f"); again.node == f.node {
			t.Fatal("another file is the same node")
		}
		if st.Ino == f.ino {
			return
		}
		g.forget(f, 1)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("the host has used no number twice")
}

func TestNodes(t *testing.T) {
	var files []string
	for i := range 40 {
		files = append(files, fmt.Sprintf("d/f%d", i), fmt.Sprint(i))
	}
	g := newGuest(t, Config{MaxNodes: 20}, source(t, files...))
	d := g.walk("src", "d")
	first := g.lookup(d.node, "f0")
	kept := g.lookup(d.node, "f1")
	fh := g.open(kept.node, unix.O_RDONLY)
	for i := 2; i < 40; i++ {
		g.lookup(d.node, fmt.Sprint("f", i))
	}
	if n, _ := g.counts(); n != 20 {
		t.Errorf("%d nodes", n)
	}
	_, err := g.getattr(first.node)
	wantErr(t, "the first", err, unix.ESTALE)
	if got, err := g.read(kept.node, fh, 0, 4); got != "1" || err != nil {
		t.Errorf("one that is open: %q, %v", got, err)
	}
	if _, err := g.getattr(d.node); err != nil {
		t.Error("a folder of others:", err)
	}
	again := g.lookup(d.node, "f0")
	if again.node == first.node {
		t.Error("a number is used twice")
	}
	g.forget(first, 1)
	if _, err := g.getattr(again.node); err != nil {
		t.Error("after FORGET of what the node was:", err)
	}
	// With all in use there is room for no other.
	for i := 2; ; i++ {
		b, err := g.call(opLookup, d.node, fmt.Sprint("f", i))
		if err != nil {
			wantErr(t, "one more", err, unix.ENFILE)
			break
		}
		g.open((&decoder{b: b}).u64(), unix.O_RDONLY)
	}
	if n, _ := g.counts(); n != 20 {
		t.Errorf("%d nodes", n)
	}
	_, err = g.call(opCreate, d.node, uint32(unix.O_RDWR), uint32(0o644), uint64(0), "new")
	wantErr(t, "CREATE", err, unix.ENFILE)
}

func TestHandles(t *testing.T) {
	g := newGuest(t, Config{MaxHandles: 3}, source(t, "a", ""))
	a := g.walk("src", "a")
	for range 3 {
		g.open(a.node, unix.O_RDONLY)
	}
	_, err := g.call(opOpen, a.node, uint32(unix.O_RDONLY), uint32(0))
	wantErr(t, "one more", err, unix.ENFILE)
	_, err = g.call(opCreate, g.walk("src").node, uint32(unix.O_RDWR), uint32(0o644), uint64(0), "new")
	wantErr(t, "CREATE", err, unix.ENFILE)
	if n := g.s.config.Files.Held(); n != 5 {
		t.Errorf("%d descriptors", n)
	}
	g.counts()
}

// TestBudget has descriptors go to what is opened when they are few.
func TestBudget(t *testing.T) {
	var files []string
	for i := range 100 {
		files = append(files, fmt.Sprint("f", i), "")
	}
	files = append(files, "d/x", "")
	g := newGuest(t, Config{Files: hostfs.NewFiles(40), MaxOpen: 1000}, source(t, files...))
	src := g.walk("src")
	for i := range 25 {
		e := g.lookup(src.node, fmt.Sprint("f", i))
		g.open(e.node, unix.O_RDONLY)
		for j := range 100 {
			g.lookup(src.node, fmt.Sprint("f", j))
		}
		if i >= 15 {
			break
		}
	}
	for i := range 5 {
		g.made(g.call(opMkdir, src.node, uint32(0o755), uint32(0), fmt.Sprint("new", i)))
		g.made(g.call(opSymlink, src.node, fmt.Sprint("link", i), "target"))
	}
	if n := g.s.config.Files.Held(); n > 40 {
		t.Errorf("%d descriptors", n)
	}
	g.counts()
}

// TestCycle has the host move folders so that the guest sees each below the
// other.
func TestCycle(t *testing.T) {
	sh := source(t, "a/b/x", "")
	at := func(name string) string { return filepath.Join(sh.Path, name) }
	g := newGuest(t, Config{}, sh)
	a, b, x := g.walk("src", "a"), g.walk("src", "a", "b"), g.walk("src", "a", "b", "x")
	for _, err := range []error{os.Rename(at("a/b"), at("b")), os.Rename(at("a"), at("b/a"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if e := g.lookup(b.node, "a"); e.node != a.node {
		t.Fatal("another node")
	}
	g.counts()
	if e := g.walk("src", "b"); e.node != b.node {
		t.Fatal("another node")
	}
	for _, e := range []entry{x, a, b} {
		g.forget(e, 10)
	}
	if n, _ := g.counts(); n != 1 {
		t.Errorf("%d nodes are left", n)
	}
}

// A folder can be mounted within itself on the host, and so be its own entry.
func TestFolderInItself(t *testing.T) {
	g := newGuest(t, Config{}, source(t, "a/b", "text"))
	a := g.walk("src", "a")
	u, err := g.s.use(a.node)
	if err != nil {
		t.Fatal(err)
	}
	n, err := g.s.found(u.n, "self", u.file.Ref()) // what LOOKUP calls
	u.release()
	if err != nil || n.id != a.node {
		t.Fatalf("%+v, %v", n, err)
	}
	if n.parent == n {
		t.Fatal("a folder is above itself") // who looks for what is above it would look for ever
	}
	g.counts()
	g.forget(a, 2)
	if n, _ := g.counts(); n != 1 {
		t.Errorf("%d nodes are left", n)
	}
}

func TestHardLinks(t *testing.T) {
	g := newGuest(t, Config{MaxOpen: 1}, source(t, "a", "text", "d/x", ""))
	src, a := g.walk("src"), g.walk("src", "a")
	b := g.made(g.call(opLink, src.node, a.node, "b"))
	if b.node != a.node || b.nlink != 2 {
		t.Fatalf("%+v", b)
	}
	g.must(g.call(opUnlink, src.node, "a"))
	g.walk("src", "d", "x")
	if a, err := g.getattr(a.node); err != nil || a.nlink != 1 {
		t.Errorf("by the other name: %+v, %v", a, err)
	}
	g.must(g.call(opUnlink, src.node, "b"))
	g.forget(a, 2)
	g.counts()
	_, err := g.call(opLookup, src.node, "a")
	wantErr(t, "LOOKUP", err, unix.ENOENT)
}
