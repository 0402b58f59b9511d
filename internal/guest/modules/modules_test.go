//go:build linux

package modules

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
)

const sample = `byre-modules 1 6.1.0-test
mod a /m/a.ko
mod b /m/b.ko deps=a
mod c /m/c.ko deps=b soft=d args=x=1 args=y=2 new=thing
mod d /m/d.ko cpu=sse9
mod e /m/e.ko
mod g /m/g.ko on=virtio
mod h /m/h.ko deps=a on=hyperv
mod i /m/i.ko on=moon
builtin f
future line that nobody knows
core a
core e
core b
core g
core h
core i
warm c
alias fs_ext4 c
alias crypto_x d
alias crypto_x e
alias net_x h
alias net_x e
alias moon_x i
alias pci:v00001AF4d*sv* b
`

func load(t *testing.T, text string) *Index {
	t.Helper()
	ix, err := ParseIndex([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return ix
}

func TestParseIndex(t *testing.T) {
	ix := load(t, sample)
	if got, want := fmt.Sprintf("%s %v %v", ix.Version, ix.Core, ix.Warm), "6.1.0-test [a e b g h i] [c]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := *ix.modules["c"], (module{name: "c", path: "/m/c.ko", deps: []string{"b"}, soft: []string{"d"}, args: "x=1 y=2"}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	first, rest := ix.Split("b", "nobody")
	if got, want := fmt.Sprint(first, rest), "[a b] [e g h i]"; got != want {
		t.Errorf("split: got %s, want %s", got, want)
	}
}

func TestParseIndexErrors(t *testing.T) {
	head := "byre-modules 1 -\n"
	many := head
	for i := range maxModules + 1 {
		many += fmt.Sprintf("mod m%d /m\n", i)
	}
	for name, text := range map[string]string{
		"empty":         "",
		"version":       "byre-modules 2 x\n",
		"other file":    "hello\n",
		"no path":       head + "mod a\n",
		"relative path": head + "mod a m/a.ko\n",
		"twice":         head + "mod a /a\nmod a /b\n",
		"core unknown":  head + "core a\n",
		"warm unknown":  head + "warm a\n",
		"alias unknown": head + "alias p a\n",
		"alias fields":  head + "alias p\n",
		"core fields":   head + "core\n",
		"dep unknown":   head + "mod a /a deps=b\n",
		"circle":        head + "mod a /a deps=b\nmod b /b deps=a\n",
		"soft circle":   head + "mod a /a soft=a\n",
		"long line":     head + "mod a /" + strings.Repeat("x", maxLine) + "\n",
		"too many":      many,
		"too large":     head + strings.Repeat("x\n", maxIndex/2),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := ParseIndex([]byte(text)); !errors.Is(err, ErrIndex) {
				t.Errorf("got %v, want %v", err, ErrIndex)
			}
		})
	}
}

func TestNoIndex(t *testing.T) {
	l, err := Open(filepath.Join(t.TempDir(), "none"))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Insert("ext4"); err != nil {
		t.Errorf("a kernel with everything built in: got %v, want nil", err)
	}
}

func TestLookup(t *testing.T) {
	ix := load(t, sample)
	for request, want := range map[string]string{
		"a": "[a]", "f": "[f]", "fs-ext4": "[c]", "fs_ext4": "[c]", "crypto-x": "[d e]",
		"pci:v00001AF4d00001041sv0000": "[b]", "nobody": "[]", "": "[]",
	} {
		if got := fmt.Sprint(ix.Lookup(request)); got != want {
			t.Errorf("%q: got %s, want %s", request, got, want)
		}
	}
	if got, want := normalize("a-b[c-d]-e"), "a_b[c-d]_e"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// fake is a kernel that takes modules.
type fake struct {
	mu    sync.Mutex
	order []string
	fail  map[string]error
}

func (f *fake) loader(ix *Index) *Loader {
	l := NewLoader(ix)
	l.flags = func() map[string]bool { return map[string]bool{} }
	l.kind = func() string { return virtio }
	l.insert = func(path, args string) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if err := f.fail[path]; err != nil {
			return err
		}
		f.order = append(f.order, strings.TrimSpace(path+" "+args))
		return nil
	}
	return l
}

func TestInsert(t *testing.T) {
	f := &fake{}
	l := f.loader(load(t, sample))
	if err := l.Request("fs-ext4"); err != nil {
		t.Fatal(err)
	}
	// d is soft and not for this processor; a is not inserted twice.
	if err := l.Insert("b", "f"); err != nil {
		t.Fatal(err)
	}
	if got, want := f.order, []string{"/m/a.ko", "/m/b.ko", "/m/c.ko x=1 y=2"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := l.Insert("nobody"); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, want %v", err, ErrNotFound)
	}
	if err := l.Insert("d"); !errors.Is(err, ErrNotFound) {
		t.Errorf("other processor: got %v, want %v", err, ErrNotFound)
	}
	if err := l.InsertAll([]string{"d", "e"}); err != nil {
		t.Errorf("a list with a module for another processor: got %v, want nil", err)
	}
}

// TestKind inserts what is for the kind of machine, and nothing else.
func TestKind(t *testing.T) {
	for kind, want := range map[string][]string{
		virtio: {"/m/e.ko", "/m/a.ko", "/m/b.ko", "/m/g.ko"},
		hyperV: {"/m/a.ko", "/m/h.ko", "/m/e.ko", "/m/b.ko"},
	} {
		f := &fake{}
		l := f.loader(load(t, sample))
		l.kind = func() string { return kind }
		if err := l.Request("net-x"); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if err := l.Request("moon-x"); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: a request that only another kind has a module for: got %v, want %v", kind, err, ErrNotFound)
		}
		if err := l.InsertAll(l.Index().Core); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if !slices.Equal(f.order, want) {
			t.Errorf("%s: got %q, want %q", kind, f.order, want)
		}
	}
}

func TestInsertFailure(t *testing.T) {
	broken := errors.New("broken")
	f := &fake{fail: map[string]error{"/m/a.ko": broken}}
	l := f.loader(load(t, sample))
	if err := l.Insert("b", "e"); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
	if got, want := f.order, []string{"/m/e.ko"}; !slices.Equal(got, want) {
		t.Errorf("it goes on: got %q, want %q", got, want)
	}
	f.fail = nil
	if err := l.Insert("b"); err != nil {
		t.Errorf("second try: got %v, want nil", err)
	}
}

func TestInsertConcurrently(t *testing.T) {
	f := &fake{}
	l := f.loader(load(t, sample))
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if err := l.Insert("c", "e"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(f.order) != 4 {
		t.Errorf("got %q, want each module once", f.order)
	}
}

func TestKnown(t *testing.T) {
	name := filepath.Join(t.TempDir(), "modules")
	text := "a 16384 1 b, Live 0x0000000000000000\nb 16384 0 - Loading 0x0\nshort line\n"
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f := &fake{}
	l := f.loader(load(t, sample))
	if err := l.Known(name); err != nil {
		t.Fatal(err)
	}
	if err := l.Insert("b"); err != nil {
		t.Fatal(err)
	}
	if got, want := f.order, []string{"/m/b.ko"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCPUFlags(t *testing.T) {
	name := filepath.Join(t.TempDir(), "cpuinfo")
	if err := os.WriteFile(name, []byte("processor\t: 0\nflags\t\t: fpu sse4_2\n\nflags\t\t: other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := cpuFlags(name), map[string]bool{"fpu": true, "sse4_2": true}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func FuzzParseIndex(f *testing.F) {
	f.Add([]byte(sample), "fs-ext4")
	f.Add([]byte("byre-modules 1 -\nmod a /a deps=a\n"), "a")
	f.Fuzz(func(t *testing.T, b []byte, request string) {
		ix, err := ParseIndex(b)
		if err != nil {
			return
		}
		k := &fake{}
		l := k.loader(ix)
		l.InsertAll(ix.Core)
		l.Request(request)
	})
}
