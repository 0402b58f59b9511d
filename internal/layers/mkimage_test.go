package layers

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestMkimage checks the image that the boot tests run, as folder and archive.
func TestMkimage(t *testing.T) {
	const busybox = "/bin/busybox"
	if _, err := os.Stat(busybox); err != nil {
		t.Skip("no busybox")
	}
	d := t.TempDir()
	tool := filepath.Join(d, "mkimage")
	run(t, "go", "build", "-o", tool, "../../hack/mkimage")
	var digests []string
	c := openCache(t, Config{})
	for _, out := range []string{"one", "two", "three.tar", "four.tar"} {
		ref := filepath.Join(d, out)
		run(t, tool, "-busybox", busybox, "-o", ref)
		img := mustGet(t, c, ref, GetOptions{})
		digests = append(digests, img.Digest)
	}
	for _, g := range digests[1:] {
		if g != digests[0] {
			t.Errorf("got digests %v, want all alike", digests)
		}
	}
	if n := diskCount(t, c); n != 1 {
		t.Errorf("got %d disks, want 1", n)
	}
	img := mustGet(t, c, filepath.Join(d, "one")+":docker.io/library/busybox:latest", GetOptions{})
	root := unionOf(t, img)
	out, err := exec.Command("chroot", root, "/bin/sh", "-c", "ls /etc && id -un && stat -c %a /tmp").CombinedOutput()
	if want := "group\npasswd\nroot\n1777\n"; err != nil || string(out) != want {
		t.Errorf("got %q, %v, want %q", out, err, want)
	}
}
