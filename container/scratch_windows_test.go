package container

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"github.com/Microsoft/go-winio/pkg/guid"
	"golang.org/x/sys/windows"
)

// failLayer makes a call of the stand-in for vmcompute.dll fail, the one after
// so many that do not.
func failLayer(t *testing.T, function string, after int, code uint32) {
	t.Helper()
	p := vmcompute.NewProc("StandinLayerFail")
	if err := p.Find(); err != nil {
		t.Fatalf("vmcompute.dll is not the stand-in: %v", err)
	}
	name := append([]byte(function), 0)
	p.Call(uintptr(unsafe.Pointer(&name[0])), uintptr(after), uintptr(code))
}

// notMisused is called when a test ends.
func notMisused(t *testing.T) {
	t.Helper()
	p := vmcompute.NewProc("StandinLayerMisuses")
	if err := p.Find(); err != nil {
		t.Fatalf("vmcompute.dll is not the stand-in: %v", err)
	}
	before, _, _ := p.Call()
	t.Cleanup(func() {
		if now, _, _ := p.Call(); now != before {
			t.Errorf("functions of vmcompute.dll were misused %d times", now-before)
		}
	})
}

// layerFolders makes two folders of layers, and returns one for a scratch disk
// that is not there yet, below another that is not.
func layerFolders(t *testing.T) (parents []string, above, scratch string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"top", "base ü"} {
		p := filepath.Join(dir, name)
		if err := os.Mkdir(p, 0o755); err != nil {
			t.Fatal(err)
		}
		parents = append(parents, p)
	}
	above = filepath.Join(dir, "new")
	return parents, above, filepath.Join(above, "scratch")
}

func TestLayerID(t *testing.T) {
	notMisused(t)
	a, err := layerID("a")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := layerID("a"); again != a || a == (guid.GUID{}) || err != nil {
		t.Errorf("got %v and then %v, %v", a, again, err)
	}
	if b, err := layerID("b"); b == a || err != nil {
		t.Errorf("another layer: %v, %v", b, err)
	}
	if made, _ := nameID("a"); made == a {
		t.Error("the id is not the one of the host's function")
	}
	failLayer(t, "NameToGuid", 0, 0x80070005)
	if _, err := layerID("a"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("got error %v, want %v", err, fs.ErrPermission)
	}
	if _, err := layerID("a\x00b"); err == nil {
		t.Error("a name with a NUL has an id")
	}
}

// The disk is made on top of the layers, once.
func TestScratchLayer(t *testing.T) {
	notMisused(t)
	parents, _, scratch := layerFolders(t)
	for range 2 {
		disk, err := scratchDisk(scratch, parents)
		if err != nil {
			t.Fatal(err)
		}
		if want := filepath.Join(scratch, "sandbox.vhdx"); disk != want {
			t.Errorf("got %s, want %s", disk, want)
		}
		got, err := os.ReadFile(disk)
		if want := parents[0] + "\n" + parents[1] + "\nwhole\n"; err != nil || string(got) != want {
			t.Errorf("made of %q, %v; want %q", got, err, want)
		}
	}
}

// Whatever fails, the folder has nothing that was not there before.
func TestScratchLayerFails(t *testing.T) {
	notMisused(t)
	for _, c := range []struct {
		function string
		after    int
		code     uint32
		want     error
	}{
		{"NameToGuid", 0, 0x80070005, fs.ErrPermission},
		{"NameToGuid", 1, 0x8007000E, windows.ERROR_OUTOFMEMORY},
		{"CreateSandboxLayer", 0, 0x80070070, windows.ERROR_DISK_FULL},
		{"CreateSandboxLayer", 0, 0xC0370103, windows.Errno(0xC0370103)},
	} {
		parents, above, scratch := layerFolders(t)
		for _, there := range []string{"", above, scratch} {
			if there != "" {
				if err := os.MkdirAll(there, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			failLayer(t, c.function, c.after, c.code)
			if _, err := scratchDisk(scratch, parents); !errors.Is(err, c.want) {
				t.Errorf("%s: got error %v, want %v", c.function, err, c.want)
			}
			for _, p := range []string{above, scratch, filepath.Join(scratch, "sandbox.vhdx")} {
				_, err := os.Stat(p)
				if had := len(p) <= len(there); had != (err == nil) {
					t.Errorf("%s: of %q there is %s: %v", c.function, there, p, err)
				}
			}
		}
		if _, err := scratchDisk(scratch, parents); err != nil {
			t.Errorf("after a failure of %s: %v", c.function, err)
		}
	}
}
