package leak

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestSince(t *testing.T) {
	dir := t.TempDir()
	before := Take(dir)
	if left := Take(dir).Since(before); len(left) != 0 {
		t.Fatalf("nothing was made and %q is left", left)
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "byre.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	left := strings.Join(Take(dir).Since(before), "\n")
	for _, want := range []string{"file " + dir + "/f", "socket " + dir + "/byre.sock", "process ", "open socket:"} {
		if !strings.Contains(left, want) {
			t.Errorf("%q is not among what is left:\n%s", want, left)
		}
	}
}
