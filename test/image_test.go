//go:build linux

package test

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Images wherever they come from, and the verbs that look after them.
func TestImages(t *testing.T) {
	ctx := begin(t)
	cache := "BYRE_CACHE=" + t.TempDir()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	ref := strings.TrimPrefix(server.URL, "http://") + "/tests/busybox:1"
	img, err := mutate.AppendLayers(busybox(t), layer(t, map[string]string{"where": "the registry\n"}))
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, img); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(t.TempDir(), "docker.tar")
	if err := tarball.WriteToFile(archive, tag, img); err != nil {
		t.Fatal(err)
	}
	verb := func(t *testing.T, args ...string) outcome {
		t.Helper()
		cmd := byre(ctx, t, args...)
		cmd.Env = append(cmd.Env, cache)
		got := call(t, cmd)
		if got.code != 0 {
			t.Errorf("byre %s: %+v", strings.Join(args, " "), got)
		}
		return got
	}
	refs := func(t *testing.T) (refs []string) {
		t.Helper()
		var all []struct{ Ref string }
		if err := json.Unmarshal([]byte(verb(t, "image", "ls", "--json").stdout), &all); err != nil {
			t.Fatal(err)
		}
		for _, i := range all {
			refs = append(refs, i.Ref)
		}
		return refs
	}

	if got := verb(t, "run", "--rm", ref, "cat", "/where"); got.stdout != "the registry\n" {
		t.Errorf("from a registry: %+v", got)
	}
	server.Close() // from here on the cache must do
	if got := verb(t, "run", "--rm", "--pull", "never", ref, "cat", "/where"); got.stdout != "the registry\n" {
		t.Errorf("from the cache: %+v", got)
	}
	if got := verb(t, "run", "--rm", archive, "cat", "/where"); got.stdout != "the registry\n" {
		t.Errorf("from a docker archive: %+v", got)
	}
	if got := refs(t); !slices.Contains(got, ref) {
		t.Errorf("image ls: %q lacks %q", got, ref)
	}
	if got := verb(t, "image", "ls"); !strings.Contains(got.stdout, ref) {
		t.Errorf("image ls: %q", got.stdout)
	}
	if got := verb(t, "__completeNoDesc", "image", "rm", ""); !strings.Contains(got.stdout, ref+"\n") {
		t.Errorf("completion: %q lacks %q", got.stdout, ref)
	}
	cmd := byre(ctx, t, "image", "rm", "nosuch", ref) // the second goes though the first is not there
	cmd.Env = append(cmd.Env, cache)
	if got := call(t, cmd); got.code != 125 || got.stdout != ref+"\n" || !strings.Contains(got.stderr, "nosuch") {
		t.Errorf("image rm: %+v", got)
	}
	if got := refs(t); slices.Contains(got, ref) {
		t.Errorf("image ls after rm: %q", got)
	}
	if got := verb(t, "image", "prune"); !strings.HasPrefix(got.stdout, "deleted ") {
		t.Errorf("image prune: %q", got.stdout)
	}
}

// The verbs that boot nothing.
func TestVerbs(t *testing.T) {
	ctx := begin(t)
	for _, x := range []struct {
		args []string
		want string // of stdout
	}{
		{[]string{"version"}, "byre "},
		{[]string{"version", "--json"}, `"version"`},
		{[]string{"--help"}, "byre run"},
		{[]string{"run", "--help"}, "--cap-drop"},
		{[]string{"completion", "bash"}, "complete"},
		{[]string{"doctor"}, "boot files"},
		{[]string{"doctor", "--json"}, `"ok": true`},
		{[]string{"boot", "check", bootFiles(t)}, "initrd.img"},
		{[]string{"boot", "check", "--json", bootFiles(t)}, `"rootfs.vhd"`},
	} {
		if got := call(t, byre(ctx, t, x.args...)); got.code != 0 || !strings.Contains(got.stdout, x.want) {
			t.Errorf("byre %s: %+v, want %q", strings.Join(x.args, " "), got, x.want)
		}
	}
	for _, args := range [][]string{{"nosuch"}, {"image", "nosuch"}, {"run"}, {"run", "--nosuch", "x"}, {"boot", "check", t.TempDir()}, {"image", "rm", "nosuch"}} {
		if got := call(t, byre(context.WithoutCancel(ctx), t, args...)); got.code != 125 || !strings.Contains(got.stderr, "byre: ") {
			t.Errorf("byre %s: %+v, want code 125", strings.Join(args, " "), got)
		}
	}
}
