package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A program that asked for JSON gets it of a run that was refused, too.
func TestRunRefusedJSON(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	old := os.Stderr
	os.Stderr = f
	_, err = execute("run", "--json", "--cpus", "-1", "an/image")
	os.Stderr = old
	var exit *exitError
	if !errors.As(err, &exit) || exit.code != codeFailed {
		t.Errorf("got %v, want exit code %d", err, codeFailed)
	}
	out, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	text, line, _ := strings.Cut(string(out), "\n")
	var got struct {
		Image, Error string
		ExitCode     int
	}
	if err := json.Unmarshal([]byte(line), &got); err != nil || got.Image != "an/image" || got.ExitCode != codeFailed || text != "byre: "+got.Error {
		t.Errorf("got %q, %v", out, err)
	}
}
