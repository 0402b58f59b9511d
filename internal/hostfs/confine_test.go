//go:build linux

package hostfs

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// seen returns what there is below a folder: attributes but for the time of the
// last access, and what files have.
func seen(t *testing.T, dir string) map[string]string {
	t.Helper()
	got := make(map[string]string)
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st := lstat(t, p)
		text := fmt.Sprintf("%o %d:%d %d %v %v", st.Mode, st.Uid, st.Gid, st.Nlink, st.Mtim, st.Ctim)
		if d.Type().IsRegular() {
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			text += string(b)
		}
		got[p] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// change does to the folder n and to a file in it whatever a client can, and
// returns what the file had.
func change(n *Node, name string) (text string, done int) {
	count := func(err error) {
		if err == nil {
			done++
		}
	}
	root := n.Tree().Root()
	none := Owner{UID: NoID, GID: NoID, ByFolder: true}
	if f, _, err := n.Lookup(name); err == nil {
		if file, _, err := f.Open(unix.O_RDWR); err == nil {
			b := make([]byte, 100)
			m, err := file.ReadAt(b, 0)
			count(err)
			text = string(b[:m])
			_, err = file.WriteAt([]byte("inside"), 0, DropPrivilege)
			count(err)
			count(f.SetAttr(file, Change{Set: SetMode | SetMTime, Mode: 0o600}))
			file.Close()
		}
		count(f.SetAttr(nil, Change{Set: SetSize | SetMTime, Size: 6}))
		count(f.Setxattr("user.x", []byte("y"), 0))
		count(f.Link(root, "linked"))
		count(root.Unlink("linked", false))
		f.Unref()
	}
	if made, file, _, err := n.Create("made", unix.O_RDWR, 0o644, none); err == nil {
		count(file.Close())
		made.Unref()
	}
	count(n.Rename("made", n, "moved", 0))
	count(n.Unlink("moved", false))
	if made, _, err := n.Mkdir("folder", 0o755, none); err == nil {
		count(nil)
		made.Unref()
	}
	count(n.Unlink("folder", true))
	return text, done
}

// Folders and files that turn into symbolic links and back, again and again,
// never lead outside, whatever is done to them.
func TestConfinedRace(t *testing.T) {
	outside := t.TempDir()
	put(t, outside, "f", "outside")
	put(t, mkdir(t, outside, "sub"), "f", "outside")
	dir := t.TempDir()
	put(t, mkdir(t, dir, "d"), "f", "inside")
	for p, to := range map[string]string{"link": outside, "d/link": outside + "/f"} {
		if err := os.Symlink(to, filepath.Join(dir, p)); err != nil {
			t.Fatal(err)
		}
	}
	before := seen(t, outside)
	tree := open(t, Share{Path: dir})
	at, err := unix.Open(dir+"/d", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(at)
	stop := make(chan struct{})
	var host, clients sync.WaitGroup
	host.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			unix.Renameat2(unix.AT_FDCWD, dir+"/d", unix.AT_FDCWD, dir+"/link", unix.RENAME_EXCHANGE)
			if i%3 == 0 {
				unix.Renameat2(at, "f", at, "link", unix.RENAME_EXCHANGE)
			}
		}
	})
	var all, links atomic.Int32
	deadline := time.Now().Add(time.Minute)
	for range 2 {
		clients.Go(func() {
			for i := 0; i < 3000 || min(all.Load(), links.Load()) < 10 && time.Now().Before(deadline); i++ {
				d, _, err := tree.Root().Lookup("d")
				if err != nil {
					t.Errorf("look-up: %v", err)
					return
				}
				text, done := change(d, "f")
				if text != "" && text != "inside" {
					t.Errorf("read %q", text)
				}
				if all.Add(int32(done)); !d.IsDir() {
					if links.Add(1); done > 0 {
						t.Errorf("%d things were done in a link", done)
					}
				}
				d.Unref()
			}
		})
	}
	clients.Wait()
	close(stop)
	host.Wait()
	if min(all.Load(), links.Load()) < 10 {
		t.Errorf("%d things were done, %d links were seen", all.Load(), links.Load())
	}
	if after := seen(t, outside); !maps.Equal(before, after) {
		t.Errorf("outside there is %v, want %v", after, before)
	}
}

// FuzzNames asks for anything by any name.
func FuzzNames(f *testing.F) {
	for _, name := range []string{"", ".", "..", "/", "f", "d/f", "../target", "s", "abs", "a\x00b", "\xff", "/proc/self/root", "d", "f/.."} {
		for _, other := range []string{"f", "..", "../x", "new"} {
			f.Add(name, other, false)
			f.Add(name, other, true)
		}
	}
	f.Fuzz(func(t *testing.T, name, other string, restricted bool) {
		base := t.TempDir()
		put(t, base, "target", "outside")
		dir := mkdir(t, base, "share")
		put(t, dir, "f", "inside")
		put(t, mkdir(t, dir, "d"), "f", "inside")
		for link, to := range map[string]string{"s": "..", "abs": base, "t": "../target"} {
			if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
				t.Fatal(err)
			}
		}
		sh := Share{Path: dir}
		if restricted {
			sh.AllowedNames = []string{"d", "new"}
		}
		tree := open(t, sh)
		before := seen(t, base)
		root := tree.Root()
		for _, n := range []*Node{root, at(t, tree, "d")} {
			if got, _, err := n.Lookup(name); err == nil {
				if CheckName(name) != nil {
					t.Errorf("%q leads to %+v", name, got.ID())
				}
				got.Unref()
			}
			if text, _ := change(n, name); text != "" && text != "inside" {
				t.Errorf("%q has %q", name, text)
			}
			_, _ = change(n, other)
			_ = n.Rename(name, root, other, 0)
			_ = root.Rename(other, n, name, unix.RENAME_EXCHANGE)
			for _, make := range makers {
				if made, _, err := make(n, name, 0o777, Owner{UID: NoID, GID: NoID}); err == nil {
					made.Unref()
				}
			}
			_ = n.Unlink(name, false)
			_ = n.Unlink(other, true)
		}
		after := seen(t, base)
		for p, text := range before {
			inside := p == dir || filepath.Dir(p) == dir || filepath.Dir(p) == dir+"/d"
			kept := restricted && filepath.Dir(p) == dir && p != dir+"/d"
			if (!inside || kept) && after[p] != text {
				t.Errorf("%s is %q, want %q", p, after[p], text)
			}
			delete(after, p)
		}
		for p := range after {
			if rel, err := filepath.Rel(dir, p); err != nil || !filepath.IsLocal(rel) {
				t.Errorf("%s was made outside", p)
			}
		}
	})
}
