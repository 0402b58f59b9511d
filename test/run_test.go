//go:build linux

package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// byre returns a command that runs byre with args. What becomes of it is
// bounded by ctx: it is asked to end, so that it can clean up.
func byre(ctx context.Context, t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(ctx, needed(t, "BYRE", "../bin/byre"), args...)
	cmd.Env = append(os.Environ(), "BYRE_BOOT_FILES="+bootFiles(t), "BYRE_CACHE="+t.TempDir())
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	return cmd
}

// call runs byre to its end.
func call(t testing.TB, cmd *exec.Cmd) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v; stderr %q", err, stderr.String())
	}
	return outcome{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// What a container sees of all flags at once.
func TestRunFlags(t *testing.T) {
	ctx := begin(t)
	envFile := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(envFile, []byte("FROM_FILE=file\nOVER=file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(busybox(t), layer(t, map[string]string{
		"etc/passwd": "root:x:0:0::/root:/bin/sh\napp:x:1234:1234::/:/bin/sh\n",
		"etc/group":  "root:x:0:\nstaff:x:50:\nextra:x:60:app\n",
	}))
	if err != nil {
		t.Fatal(err)
	}
	cmd := byre(ctx, t, "run", "--rm", "--json", "--name", "flags", "-i",
		"-e", "A=two words", "-e", "FROM_HOST", "-e", "OVER=flag", "--env-file", envFile, "-w", "/tmp", "-u", "app:staff",
		"--entrypoint", "/bin/sh", "--hostname", "box", "--read-only", "--tmpfs", "/scratch:size=2m", "--shm-size", "3m",
		"--ulimit", "nofile=77:88", "--cap-drop", "ALL", "--memory", "64m", "--cpus", "0.5",
		write(t, img), "-c", `
		echo "env $A $FROM_HOST $FROM_FILE $OVER"
		echo "cwd $(pwd)"
		echo "id $(id -u):$(id -g)"
		echo "host $(hostname)"
		echo "args $0 $*"
		touch /x 2>/dev/null || echo root is read-only
		grep -E " /(scratch|dev/shm) " /proc/mounts | sed 's/.*\( .[^ ]* tmpfs\).*\(size=[0-9]*k\).*/mount\1 \2/'
		echo "files $(ulimit -Sn) $(ulimit -Hn)"
		grep -E "Cap(Prm|Eff|Bnd)" /proc/self/status
		echo "memory $(cat /sys/fs/cgroup/memory.max)"
		echo "cpu $(cat /sys/fs/cgroup/cpu.max)"
		cat
		echo to stderr >&2
		exit 33`, "zero", "one")
	cmd.Env = append(cmd.Env, "FROM_HOST=host")
	cmd.Stdin = strings.NewReader("from stdin\n")
	got := call(t, cmd)
	want := []string{
		"env two words host file flag", "cwd /tmp", "id 1234:50", "host box", "args zero one", "root is read-only",
		"mount /dev/shm tmpfs size=3072k", "mount /scratch tmpfs size=2048k", "files 77 88",
		"CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000",
		"memory 67108864", "cpu 50000 100000", "from stdin",
	}
	if got.stdout != strings.Join(want, "\n")+"\n" {
		t.Errorf("got\n%s\nwant\n%s", got.stdout, strings.Join(want, "\n"))
	}
	if got.code != 33 {
		t.Errorf("exit code %d, want 33; stderr:\n%s", got.code, got.stderr)
	}
	lines := strings.Split(strings.TrimSpace(got.stderr), "\n")
	if !strings.Contains(got.stderr, "to stderr\n") || strings.Contains(got.stderr, "msg=kernel") {
		t.Errorf("stderr is\n%s", got.stderr)
	}
	var report struct {
		ID       string
		ExitCode int
		Stages   []struct{ Name string }
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &report); err != nil {
		t.Fatalf("%v: %q", err, lines[len(lines)-1])
	}
	if report.ID != "flags" || report.ExitCode != 33 || len(report.Stages) != 9 {
		t.Errorf("report %+v", report)
	}
}

// The exit codes of byre, and what it says.
func TestRunCodes(t *testing.T) {
	image := testImage(t)
	for _, x := range []struct {
		name string
		args []string
		code int
		text string // of stderr
	}{
		{"success", []string{"--timing", image, "true"}, 0, "VMM spawn"},
		{"failure", []string{image, "sh", "-c", "exit 3"}, 3, ""},
		{"terminated", []string{image, "sh", "-c", `sh -c "kill -TERM \$\$"; exit $?`}, 143, ""},
		{"killed", []string{image, "sh", "-c", `sh -c "kill -KILL \$\$"; exit $?`}, 137, ""},
		{"not found", []string{image, "nosuch"}, 127, "not in the container"},
		{"not executable", []string{image, "/etc/passwd"}, 126, "cannot be executed"},
		{"out of memory", []string{"-m", "16m", image, "tail", "/dev/zero"}, 137, ""},
		{"user not there", []string{"-u", "nosuch", image, "true"}, 125, "nosuch"},
		{"no image", []string{"/no/such/folder", "true"}, 125, "/no/such/folder"},
		{"never pulled", []string{"--pull", "never", "localhost:1/x", "true"}, 125, "localhost:1/x"},
		{"platform", []string{"--platform", "linux/s390x", image, "true"}, 125, "s390x"},
		{"boot files", []string{"--boot-files", "/no/such/folder", image, "true"}, 125, "/no/such/folder"},
		{"no boot files", []string{"--boot-files", t.TempDir(), image, "true"}, 125, "byre boot build"},
		{"name", []string{"--name", "../x", image, "true"}, 125, "--name"},
		{"publish", []string{"-p", "80", image, "true"}, 125, "HOSTPORT"},
		{"network", []string{"--network", "hots", image, "true"}, 125, "want nat"},
		{"network of the host", []string{"--network", "host", image, "true"}, 125, "host-gateway"},
		{"volume", []string{"-v", "/nope:/b", image, "true"}, 125, "no such file"},
		{"terminal", []string{"-it", image, "true"}, 125, "terminal"},
		{"memory of the VM", []string{"--vm-memory", "99999g", image, "true"}, 125, "more than"},
	} {
		t.Run(x.name, func(t *testing.T) {
			ctx := begin(t)
			got := call(t, byre(ctx, t, append([]string{"run", "--rm"}, x.args...)...))
			if got.code != x.code || got.stdout != "" || !strings.Contains(got.stderr, x.text) {
				t.Errorf("code %d, stdout %q, stderr\n%s\nwant %d, %q", got.code, got.stdout, got.stderr, x.code, x.text)
			}
			if x.name == "success" {
				checkTable(t, got.stderr)
			}
		})
	}
}

// checkTable looks for the rows of the timing table, in order.
func checkTable(t *testing.T, text string) {
	t.Helper()
	var rows []string
	for _, m := range regexp.MustCompile(`(?m)^(\S[^:\n]*?) +[0-9.]+ ms +[0-9.]+ ms$`).FindAllStringSubmatch(text, -1) {
		rows = append(rows, m[1])
	}
	const want = "VMM spawn, kernel, agent, bridge, layers, network, container, process, teardown"
	if got := strings.Join(rows, ", "); got != want {
		t.Errorf("the timing table has %s, want %s:\n%s", got, want, text)
	}
}

// Streams that do not end when the command does, or end before it.
func TestRunStreams(t *testing.T) {
	t.Run("stdin that never ends", func(t *testing.T) {
		ctx := begin(t)
		r, w := io.Pipe()
		defer w.Close()
		cmd := byre(ctx, t, "run", "-i", testImage(t), "sh", "-c", "echo done")
		pipe, err := cmd.StdinPipe() // an open pipe: exec does not wait for it
		if err != nil {
			t.Fatal(err)
		}
		defer pipe.Close()
		r.Close()
		if got := call(t, cmd); got.stdout != "done\n" || got.code != 0 {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("stdout closed", func(t *testing.T) {
		ctx := begin(t)
		cmd := byre(ctx, t, "run", testImage(t), "yes")
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		var stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = w, &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		w.Close()
		if _, err := io.ReadFull(r, make([]byte, 2)); err != nil {
			t.Errorf("%v; stderr %s", err, stderr.String())
		}
		r.Close()
		cmd.Wait()
		// As the first process of its container, which no signal ends by
		// default, yes lives to see the error.
		if code := cmd.ProcessState.ExitCode(); code != 1 && code != 141 || strings.Contains(stderr.String(), "byre: ") {
			t.Errorf("code %d, stderr %s", code, stderr.String())
		}
	})
}
