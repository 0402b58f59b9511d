package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// stage sets up what a run needs: boot files, a cache, and an image, whose
// file it returns.
func stage(t *testing.T) (image string) {
	t.Helper()
	dir := t.TempDir()
	boot := filepath.Join(dir, "boot")
	if err := os.Mkdir(boot, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"kernel", "initrd.img"} {
		if err := os.WriteFile(filepath.Join(boot, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("BYRE_BOOT_FILES", boot)
	t.Setenv("BYRE_CACHE", filepath.Join(dir, "cache"))

	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []*tar.Header{
		{Name: "bin/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "bin/echo", Typeflag: tar.TypeReg, Mode: 0o755, Size: 4},
	} {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			io.WriteString(w, "\x7fELF")
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err == nil {
		img, err = mutate.ConfigFile(img, &v1.ConfigFile{
			OS: "linux", Architecture: "amd64", Config: v1.Config{Cmd: []string{"echo", "by", "default"}},
			RootFS: must(img.ConfigFile()).RootFS,
		})
	}
	image = filepath.Join(dir, "image.tar")
	if err == nil {
		err = tarball.WriteToFile(image, name.MustParseReference("test/image:latest"), img)
	}
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A run is the whole path: the image becomes a disk, the VM boots by the DLL,
// the container has its streams and its exit code.
func TestRunOnStandin(t *testing.T) {
	image := stage(t)
	folder := t.TempDir()
	for _, c := range []struct {
		name, stdin string
		args        []string
		want        result
	}{
		{"the image's command", "", []string{"--network", "none", image}, result{0, "by default\n", ""}},
		{"its own", "", []string{"--network", "none", image, "echo", "hi"}, result{0, "hi\n", ""}},
		{"stderr", "", []string{"--network", "none", image, "warn", "oh"}, result{0, "", "oh\n"}},
		{"an exit code", "", []string{"--network", "none", image, "exit", "7"}, result{7, "", ""}},
		{"stdin", "some\nlines\n", []string{"--network", "none", "-i", image, "cat"}, result{0, "some\nlines\n", ""}},
		{"no stdin", "some\nlines\n", []string{"--network", "none", image, "cat"}, result{0, "", ""}},
		{"a network, with a port", "", []string{"-p", "0.0.0.0:8080:80", image, "echo", "hi"}, result{0, "hi\n", ""}},
		{"a folder of a drive", "", []string{"--network", "none", "-v", folder + ":/data:ro", image, "echo", "hi"}, result{0, "hi\n", ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := byre(t, c.stdin, append([]string{"run"}, c.args...)...)
			got.errOut = withoutProgress(got.errOut)
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// withoutProgress leaves out what a slow step says of itself.
func withoutProgress(s string) string {
	var out strings.Builder
	for line := range strings.Lines(s) {
		if !strings.Contains(line, ": done in ") && !strings.HasSuffix(line, "…\n") {
			out.WriteString(line)
		}
	}
	return out.String()
}

// What cannot be is said in one line, with exit code 125, before a VM is made.
func TestRunRefusedOnStandin(t *testing.T) {
	image := stage(t)
	for _, c := range []struct {
		name, want string
		args       []string
	}{
		{"nothing to run", "requires at least 1 arg", nil},
		{"no such flag", "unknown flag: --nope", []string{"--nope", image}},
		{"no such image", "nope.tar", []string{"--network", "none", `.\nope.tar`}},
		{"another engine's choice", "only QEMU has a choice", []string{"--accel", "kvm", image}},
		{"no console", "needs a terminal", []string{"-t", "-i", image}},
		{"no such network", "nope", []string{"--network", "bridge:nope", image}},
		{"a port without an address", "0.0.0.0", []string{"-p", "8080:80", image}},
		{"no boot files there", "--boot-files", []string{"--boot-files", `C:\nope`, image}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := byre(t, "", append([]string{"run"}, c.args...)...)
			if got.code != codeFailed || got.out != "" || !strings.Contains(got.errOut, c.want) || !strings.HasPrefix(withoutProgress(got.errOut), "byre: ") {
				t.Errorf("got %+v, want %q in it", got, c.want)
			}
		})
	}
	t.Setenv("BYRE_BOOT_FILES", t.TempDir())
	if got := byre(t, "", "run", "--network", "none", image); got.code != codeFailed || !strings.Contains(got.errOut, os.Getenv("BYRE_BOOT_FILES")) {
		t.Errorf("without boot files: got %+v, want the folder", got)
	}
}

// --json is one line at the end of stderr.
func TestRunReportOnStandin(t *testing.T) {
	image := stage(t)
	got := byre(t, "", "run", "--network", "none", "--json", image, "exit", "3")
	lines := strings.Split(strings.TrimSpace(got.errOut), "\n")
	var r map[string]any
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil || got.code != 3 || got.out != "" {
		t.Fatalf("got %+v: %v", got, err)
	}
	t.Log(lines[len(lines)-1])
	if code, ok := r["exitCode"].(float64); !ok || code != 3 {
		t.Errorf("got %v", r)
	}
}

// The commands that make no VM.
func TestVerbsOnStandin(t *testing.T) {
	stage(t)
	for _, c := range []struct {
		args []string
		code int
		want string // in stdout, or in stderr after a failure
	}{
		{[]string{"--help"}, 0, "byre run --rm"},
		{[]string{"run", "--help"}, 0, "byre run [flags] IMAGE"},
		{[]string{"run", "--help"}, 0, "Default Switch"},
		{[]string{"run", "--help"}, 0, `%ProgramFiles%\Linux Containers`},
		{[]string{"selftest", "--help"}, 0, "conformance suite"},
		{[]string{"version"}, 0, "windows/amd64"},
		{[]string{"nope"}, codeFailed, `unknown command "nope"`},
		{[]string{"doctor", "too", "much"}, codeFailed, "byre: "},
		{[]string{"image", "ls"}, 0, ""},
	} {
		got := byre(t, "", c.args...)
		text, other := got.out, got.errOut
		if c.code != 0 {
			text, other = other, text
		}
		if got.code != c.code || !strings.Contains(text, c.want) || other != "" {
			t.Errorf("byre %q: got %+v, want %q", c.args, got, c.want)
		}
	}
}

// The doctor finds what Wine has and lacks: the DLL answers, the services of
// Windows are not there, which is the exit code.
func TestDoctorOnStandin(t *testing.T) {
	stage(t)
	text := byre(t, "", "doctor")
	for _, want := range []string{"Windows build ", "the Host Compute Service answers", "Enable-WindowsOptionalFeature", os.Getenv("BYRE_BOOT_FILES"), os.Getenv("BYRE_CACHE"), " free"} {
		if !strings.Contains(text.out, want) {
			t.Errorf("no %q in %s", want, text.out)
		}
	}
	got := byre(t, "", "doctor", "--json")
	var checks []struct {
		Name, Detail, Remedy string
		OK                   bool
	}
	if err := json.Unmarshal([]byte(got.out), &checks); err != nil {
		t.Fatalf("%v: %+v", err, got)
	}
	missing := 0
	for _, c := range checks {
		switch c.Name {
		case "build", "access", "boot files":
			if !c.OK {
				t.Errorf("got %+v", c)
			}
		case "compute", "network", "hyper-v":
			if c.OK || c.Remedy == "" {
				t.Errorf("got %+v", c)
			}
			missing++
		}
	}
	if missing != 3 || got.code != 1 || text.code != 1 || got.errOut != "" {
		t.Errorf("exit codes %d and %d, %d missing: %s", got.code, text.code, missing, got.errOut)
	}
}

// The whole self-test passes, and leaves nothing.
func TestSelftestOnStandin(t *testing.T) {
	got := byre(t, "", "selftest", "--json")
	r := decodeReport(t, got.out)
	if got.code != 0 || !r.OK || r.Passed < 15 || r.Failed != 0 || r.Engine != engineName || r.Build == 0 || r.Processors != 4 || len(r.Checks) == 0 {
		t.Errorf("exit code %d, %s: %+v", got.code, got.errOut, r)
	}
	text := byre(t, "", "selftest", "--run", "^SCSI$")
	if text.code != 0 || !strings.HasPrefix(text.out, "byre ") || !strings.Contains(text.out, "ok   SCSI") || !strings.Contains(text.out, "1 tests passed, 0 failed") {
		t.Errorf("got %+v", text)
	}
}
