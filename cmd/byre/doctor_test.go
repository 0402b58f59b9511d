package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckBootFiles(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("BYRE_BOOT_FILES", dir)
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("initrd.img", "x")
	if c := checkBootFiles(); !c.OK || !strings.Contains(c.Detail, dir) {
		t.Errorf("boot files of others: got %+v", c)
	}
	write("manifest.json", "x")
	if c := checkBootFiles(); c.OK || c.Remedy == "" || !strings.Contains(c.Detail, dir) {
		t.Errorf("a manifest that cannot be read: got %+v", c)
	}
}
