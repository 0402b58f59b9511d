package layers

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// FuzzLayer converts archives that are built from the fuzzer's choices: names,
// kinds and attributes of entries that meet in a small name space. Whatever is
// accepted must be a sound file system.
func FuzzLayer(f *testing.F) {
	f.Add([]byte("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b"))
	f.Add([]byte("\x00\x00\x00\x30\x00\x00\x00\x01\x00\x20\x00\x00"))
	f.Add([]byte("\x50\x01\x00\x51\x01\x00\x20\x02\x01\x00\x02\x00"))
	tool, err := exec.LookPath("e2fsck")
	if err != nil {
		f.Skip("no e2fsck")
	}
	names := []string{"a", "b", "a/b", "b/a", "a/b/c", "c/a", "c", ".wh.a", "a/.wh.b", "a/.wh..wh..opq", ".wh.c", "",
		"lost+found", "lost+found/a", ".wh.lost+found", "../a"}
	kinds := []byte{tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink, tar.TypeChar, tar.TypeFifo}
	f.Fuzz(func(t *testing.T, choices []byte) {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		for ; len(choices) >= 3; choices = choices[3:] {
			h := tar.Header{Name: names[choices[0]%16], Typeflag: kinds[choices[0]/16%6], Mode: int64(choices[2])}
			switch h.Typeflag {
			case tar.TypeReg:
				h.Size = int64(choices[1]) * int64(choices[2])
			case tar.TypeLink, tar.TypeSymlink:
				h.Linkname = names[choices[1]%16]
			}
			if choices[2] > 128 {
				h.PAXRecords = map[string]string{xattrRecord + "user." + names[choices[2]%7]: string(make([]byte, choices[1]))}
			}
			if w.WriteHeader(&h) != nil {
				return
			}
			w.Write(make([]byte, h.Size))
		}
		w.Close()
		soundDisk(t, tool, buf.Bytes())
	})
}

// FuzzTar converts bytes that may or may not be an archive.
func FuzzTar(f *testing.F) {
	f.Add(tarOf(f, dir("d"), file("d/f", "x"), hardlink("l", "d/f"), symlink("s", "d"), file("s/g", "y").xattr("user.a", "b")))
	f.Add(sparseBomb())
	tool, err := exec.LookPath("e2fsck")
	if err != nil {
		f.Skip("no e2fsck")
	}
	f.Fuzz(func(t *testing.T, b []byte) { soundDisk(t, tool, b) })
}

func soundDisk(t *testing.T, e2fsck string, layer []byte) {
	disk, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	c := conversion{
		diffID:  sha(layer),
		open:    func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer)), nil },
		maxSize: 8 << 20, maxFiles: 1000,
	}
	if _, err := c.run(t.Context(), disk); err != nil {
		return // refused
	}
	if out, err := exec.Command(e2fsck, "-fn", disk.Name()).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
