//go:build linux

package test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/container"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/uvm"
)

// Folders and files of the host in containers, and in their VM: by the device
// that is there for them, and by 9P.
func TestPlan9(t *testing.T) {
	for fsType, flag := range map[string]string{"virtiofs": "", "9p": " -share-9p"} {
		t.Run(fsType, func(t *testing.T) { testPlan9(t, fsType, flag) })
	}
}

func testPlan9(t *testing.T, fsType, flag string) {
	ctx := begin(t)
	bin := t.TempDir()
	saveShare(t, bin)
	folder := func() string {
		d := t.TempDir()
		for _, n := range []string{"f", "secret"} {
			if err := os.WriteFile(filepath.Join(d, n), []byte("host"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return d
	}
	plain, fixed, file := folder(), folder(), folder()
	img := open(ctx, t, testImage(t))
	o := options(t)
	o.ExecCommandLine += flag
	vm := boot(ctx, t, o)
	c := idle(ctx, t, vm, img, container.SpecOptions{Mounts: []specs.Mount{
		{Type: "bind", Source: bin, Destination: "/program", Options: []string{"rbind", "ro"}},
		{Type: "bind", Source: plain, Destination: "/plain", Options: []string{"rbind"}},
		{Type: "bind", Source: fixed, Destination: "/fixed", Options: []string{"rbind", "ro"}},
		{Type: "bind", Source: filepath.Join(file, "f"), Destination: "/some/file", Options: []string{"bind"}},
		{Type: "bind", Source: filepath.Join(fixed, "f"), Destination: "/fixedfile", Options: []string{"bind", "ro"}},
	}})
	check := func(what, script string) {
		step(t, what, func(ctx context.Context, t *testing.T) {
			if got := do(ctx, t, c, script); got.code != 0 || got.stdout+got.stderr != "" {
				t.Errorf("%+v", got)
			}
		})
	}
	step(t, "transport", func(ctx context.Context, t *testing.T) {
		// The container sees its own folders, and not what they come from.
		got := do(ctx, t, c, "grep -E ' (virtiofs|9p) ' /proc/mounts | cut -d ' ' -f 2-3 | sort")
		var want strings.Builder
		for _, at := range []string{"/fixed", "/fixedfile", "/plain", "/program", "/some/file"} {
			fmt.Fprintln(&want, at, fsType)
		}
		if got.stdout != want.String() {
			t.Errorf("mounts:\n%swant:\n%s", got.stdout, want.String())
		}
	})
	check("semantics", "/program/share /plain plain")
	check("read-only", "/program/share /fixed readonly")
	step(t, "on the host", func(ctx context.Context, t *testing.T) { testHostSide(t, plain, fixed) })
	check("file", `test "$(cat /some/file)" = host && echo guest >/some/file && test "$(cat /fixedfile)" = host && ! echo x 2>/dev/null >/fixedfile`)
	if b, err := os.ReadFile(filepath.Join(file, "f")); err != nil || string(b) != "guest\n" {
		t.Errorf("the file on the host: %q, %v", b, err)
	}
	step(t, "changes of the host are seen", func(ctx context.Context, t *testing.T) {
		for i := range 3 {
			if err := os.WriteFile(filepath.Join(plain, "f"), fmt.Append(nil, "turn ", i), 0o644); err != nil {
				t.Fatal(err)
			}
			if got := do(ctx, t, c, "cat /plain/f"); got.stdout != fmt.Sprint("turn ", i) {
				t.Errorf("%+v", got)
			}
		}
	})
	step(t, "changes of the host are followed", func(ctx context.Context, t *testing.T) { testFollow(ctx, t, c, plain) })
	step(t, "locks", func(ctx context.Context, t *testing.T) {
		other := idle(ctx, t, vm, img, container.SpecOptions{Mounts: []specs.Mount{
			{Type: "bind", Source: bin, Destination: "/program", Options: []string{"rbind", "ro"}},
			{Type: "bind", Source: plain, Destination: "/plain", Options: []string{"rbind"}},
		}})
		testLocks(ctx, t, c, other, plain, fsType)
		if fsType == "virtiofs" { // 9P's own kernel module lets them be interrupted, and not always
			testWaits(ctx, t, c, plain)
		}
	})
	step(t, "links", func(ctx context.Context, t *testing.T) { testLinks(ctx, t, c, plain) })
	step(t, "many shares", func(ctx context.Context, t *testing.T) { testManyShares(ctx, t, vm, fixed) })
	step(t, "refused", func(ctx context.Context, t *testing.T) { testShareRefused(ctx, t, vm, fixed) })
	step(t, "in use", func(ctx context.Context, t *testing.T) { testShareInUse(ctx, t, vm, bin, folder()) })
	step(t, "restricted", func(ctx context.Context, t *testing.T) { testRestrictedShare(ctx, t, vm, bin, folder()) })
}

// testHostSide looks at what a guest has made and what it could not.
func testHostSide(t *testing.T, plain, fixed string) {
	var st unix.Stat_t
	for name, mode := range map[string]uint32{"d": unix.S_IFDIR | 0o750, "f": unix.S_IFREG | 0o640, "s": unix.S_IFLNK | 0o777} {
		if err := unix.Lstat(filepath.Join(plain, "part4/open", name), &st); err != nil || st.Mode != mode || os.Getuid() == 0 && (st.Uid != 4321 || st.Gid != 8765) {
			t.Errorf("%s is of %d:%d with mode %o, %v", name, st.Uid, st.Gid, st.Mode, err)
		}
	}
	left, err := os.ReadDir(fixed)
	if b, _ := os.ReadFile(filepath.Join(fixed, "f")); err != nil || len(left) != 2 || string(b) != "host" {
		t.Errorf("the read-only folder has changed: %v, %q, %v", left, b, err)
	}
}

// testLinks makes links on the host that lead out of the folder: to the guest
// they lead into its own files.
func testLinks(ctx context.Context, t *testing.T, c *container.Container, dir string) {
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret")
	if err := os.WriteFile(secret, []byte("host"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"abs": secret, "up": "../" + filepath.Base(outside) + "/secret", "dir": outside, "host": "/etc/hostname"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	got := do(ctx, t, c, "cat /plain/abs /plain/up /plain/dir/secret 2>/dev/null; cat /plain/host; cat /etc/hostname")
	lines := strings.Split(strings.TrimSpace(got.stdout), "\n")
	if strings.Contains(got.stdout, "host\n") && len(lines) != 2 || len(lines) != 2 || lines[0] != lines[1] {
		t.Errorf("%+v", got)
	}
}

// testManyShares has 64 shares of one folder, twice.
func testManyShares(ctx context.Context, t *testing.T, vm *uvm.UtilityVM, dir string) {
	for range 2 {
		var shares []*uvm.Plan9Share
		for i := range 64 {
			s, err := vm.AddPlan9(ctx, dir, fmt.Sprintf("/run/mounts/many%d", i), true, false, nil)
			if err != nil {
				t.Fatal(err)
			}
			shares = append(shares, s)
		}
		for _, s := range shares {
			if err := s.Release(ctx); err != nil {
				t.Error(err)
			}
		}
	}
}

func testShareRefused(ctx context.Context, t *testing.T, vm *uvm.UtilityVM, dir string) {
	for what, path := range map[string]string{"missing": filepath.Join(dir, "none"), "file": filepath.Join(dir, "f"), "relative": "."} {
		if _, err := vm.AddPlan9(ctx, path, "/run/mounts/refused", false, false, nil); err == nil {
			t.Errorf("%s was shared", what)
		}
	}
	// What the guest cannot mount is not shared either.
	if _, err := vm.AddPlan9(ctx, dir, "/proc/none", false, false, nil); err == nil {
		t.Error("a share was mounted in /proc")
	}
	s, err := vm.AddPlan9(ctx, dir, "/run/mounts/refused", false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Release(ctx); err != nil {
		t.Error(err)
	}
}

// testRestrictedShare shares some names of a folder with the VM itself.
func testRestrictedShare(ctx context.Context, t *testing.T, vm *uvm.UtilityVM, bin, dir string) {
	for at, s := range map[string]struct {
		dir     string
		allowed []string
	}{"/run/mounts/program": {bin, nil}, "/run/mounts/restricted": {dir, []string{"f"}}} {
		share, err := vm.AddPlan9(ctx, s.dir, at, false, s.allowed != nil, s.allowed)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := share.Release(ctx); err != nil {
				t.Error(err)
			}
		}()
	}
	p, err := vm.CreateProcess(ctx, &hcsschema.ProcessParameters{
		CommandLine: "/run/mounts/program/share /run/mounts/restricted restricted", CreateStdOutPipe: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	_, stdout, _ := p.Stdio()
	out, err := io.ReadAll(stdout)
	if err == nil {
		err = p.Wait()
	}
	if err != nil {
		t.Fatal(err)
	}
	if code, err := p.ExitCode(); code != 0 || len(out) != 0 || err != nil {
		t.Errorf("exit code %d, %v: %s", code, err, out)
	}
	left, err := os.ReadDir(dir)
	if b, _ := os.ReadFile(filepath.Join(dir, "f")); err != nil || len(left) != 2 || string(b) != "guest" {
		t.Errorf("on the host: %v, %q, %v", left, b, err)
	}
}

// The flags of the command that share folders and files.
func TestRunVolume(t *testing.T) {
	ctx := begin(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	got := call(t, byre(ctx, t, "run", "-v", dir+":/v:ro", "--mount", "type=bind,source="+dir+",target=/m", "-v", filepath.Join(dir, "f")+":/file:ro",
		testImage(t), "sh", "-c", "cat /v/f /file; echo x 2>/dev/null >/v/g || echo read-only; echo guest >/m/g && cat /v/g"))
	if got.stdout != "host\nhost\nread-only\nguest\n" || got.code != 0 {
		t.Errorf("got %+v", got)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "g")); err != nil || string(b) != "guest\n" {
		t.Errorf("on the host: %q, %v", b, err)
	}
}
