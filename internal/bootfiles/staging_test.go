package bootfiles

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestReplace(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "boot")
	in := testInput(t)
	mustBuild(t, dir, in)
	open, err := os.Open(filepath.Join(dir, "initrd.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	before := read(t, dir, "initrd.img")

	writeFile(t, in.Agent, makeProgram("another agent"))
	mustBuild(t, dir, in)
	if bytes.Equal(read(t, dir, "initrd.img"), before) {
		t.Error("the folder was not replaced")
	}
	if _, err := Verify(t.Context(), dir); err != nil {
		t.Error(err)
	}
	old := make([]byte, len(before))
	if _, err := open.ReadAt(old, 0); err != nil || !bytes.Equal(old, before) {
		t.Errorf("the file that was open has changed: %v", err)
	}
	checkOnly(t, parent, "boot")

	// One that fails leaves what is there.
	writeFile(t, in.Agent, []byte("text"))
	if _, err := Build(t.Context(), dir, in); err == nil {
		t.Error("a text file as the agent: got nil, want an error")
	}
	if _, err := Verify(t.Context(), dir); err != nil {
		t.Error(err)
	}
	checkOnly(t, parent, "boot")
}

// checkOnly fails when dir holds anything but one name.
func checkOnly(t *testing.T, dir, name string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != name {
			t.Errorf("left behind: %s", e.Name())
		}
	}
}

func TestRefuseForeignFolder(t *testing.T) {
	in := testInput(t)
	for name, c := range map[string]struct {
		make func(t *testing.T, dir string)
		want string
	}{
		"other file":       {func(t *testing.T, dir string) { writeFile(t, filepath.Join(dir, "notes.txt"), nil) }, "none of ours: notes.txt"},
		"folder of a name": {func(t *testing.T, dir string) { os.MkdirAll(filepath.Join(dir, "kernel"), 0o755) }, "none of ours: kernel"},
		"a file":           {func(t *testing.T, dir string) { writeFile(t, dir, nil) }, "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			parent := t.TempDir()
			dir := filepath.Join(parent, "boot")
			c.make(t, dir)
			_, err := Build(t.Context(), dir, in)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
			checkOnly(t, parent, "boot")
		})
	}
	t.Run("empty", func(t *testing.T) { mustBuild(t, t.TempDir(), in) })
	t.Run("parent is a file", func(t *testing.T) {
		file := writeFile(t, filepath.Join(t.TempDir(), "file"), nil)
		if _, err := Build(t.Context(), filepath.Join(file, "boot"), in); err == nil {
			t.Error("got nil, want an error")
		}
	})
}

// TestAppearsMeanwhile puts a foreign file into the target while Build runs.
func TestAppearsMeanwhile(t *testing.T) {
	in, parent := testInput(t), t.TempDir()
	dir := filepath.Join(parent, "boot")
	in.Progress = func(stage string, _, _ int64) {
		if stage == "writing kernel" {
			writeFile(t, filepath.Join(dir, "notes.txt"), []byte("mine"))
		}
	}
	if _, err := Build(t.Context(), dir, in); err == nil || !strings.Contains(err.Error(), "none of ours") {
		t.Errorf("got %v, want a refusal", err)
	}
	if got := read(t, dir, "notes.txt"); string(got) != "mine" {
		t.Errorf("the file: got %q", got)
	}
	checkOnly(t, parent, "boot")
}

func TestSymlinkedTarget(t *testing.T) {
	parent := t.TempDir()
	real := filepath.Join(parent, "real")
	if err := os.Mkdir(real, 0o755); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "boot")
	if err := os.Symlink(real, link); err != nil {
		t.Skip(err)
	}
	mustBuild(t, link, testInput(t))
	if _, err := Verify(t.Context(), real); err != nil {
		t.Error(err)
	}
	if fi, err := os.Lstat(link); err != nil || fi.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link: got %v, %v", fi, err)
	}
	checkOnly(t, parent, "real")
}

func TestConcurrent(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "boot")
	in := testInput(t)
	var wg sync.WaitGroup
	errs := make([]error, 6)
	for i := range errs {
		wg.Go(func() { _, errs[i] = Build(t.Context(), dir, in) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	if _, err := Verify(t.Context(), dir); err != nil {
		t.Error(err)
	}
	checkOnly(t, parent, "boot")
}

func TestExchangeSlowly(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	writeFile(t, filepath.Join(a, "new"), nil)
	writeFile(t, filepath.Join(b, "old"), nil)
	if err := exchangeSlowly(a, b); err != nil {
		t.Fatal(err)
	}
	read(t, b, "new")
	read(t, a, "old")
	if err := exchangeSlowly(filepath.Join(dir, "none"), b); err == nil {
		t.Error("without a: got nil, want an error")
	}
	read(t, b, "new")
}
