//go:build linux

package test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A child is a running byre run. Its command locks a file of a folder of the
// host, says ready and ends with code 130 when it is interrupted.
type child struct {
	cmd    *exec.Cmd
	id     string
	folder string
	ready  chan struct{} // closed when the command runs
	ended  chan struct{} // closed when byre has
	stderr bytes.Buffer  // once it has ended
	err    error         // so too
}

// startRun starts byre run; it has ended when the test has.
func startRun(ctx context.Context, t *testing.T, id string, command ...string) *child {
	t.Helper()
	if len(command) == 0 {
		command = []string{"sh", "-c", `trap "exit 130" INT
			sleep 100000 | /folder/share /folder/lock keep >/tmp/held &
			until test -s /tmp/held; do sleep 0.1; done
			echo ready; while :; do sleep 1; done`}
	}
	c := &child{id: id, folder: t.TempDir(), ready: make(chan struct{}), ended: make(chan struct{})}
	saveShare(t, c.folder)
	if err := os.WriteFile(filepath.Join(c.folder, "lock"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"run", "--rm", "--name", id, "--vm-memory", "256m", "-v", c.folder + ":/folder", testImage(t)}, command...)
	c.cmd = byre(ctx, t, args...)
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.cmd.Stderr = &c.stderr
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		r := bufio.NewReader(stdout)
		if line, _ := r.ReadString('\n'); line == "ready\n" {
			close(c.ready)
		}
		io.Copy(io.Discard, r)
		c.err = c.cmd.Wait()
		close(c.ended)
	}()
	t.Cleanup(func() {
		c.cmd.Process.Kill()
		<-c.ended
	})
	return c
}

// until returns when something has happened; there is no event for it.
func until(ctx context.Context, t *testing.T, what string, limit time.Duration, happened func() bool) {
	t.Helper()
	for began := time.Now(); !happened(); {
		if time.Since(began) > limit {
			t.Errorf("%s: not after %v", what, limit)
			return
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			t.Fatal(context.Cause(ctx))
		}
	}
}

// isOver reports whether byre has ended.
func (c *child) isOver() bool {
	select {
	case <-c.ended:
		return true
	default:
		return false
	}
}

// traces returns what there is of a system: processes, and folders of cgroups.
func traces(id string) (found []string) {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range lines {
		b, _ := os.ReadFile(f)
		if bytes.Contains(b, []byte(id)) && !bytes.Contains(b, []byte("--name\x00"+id)) {
			found = append(found, fmt.Sprintf("%s %.40q", filepath.Dir(f), b))
		}
	}
	filepath.WalkDir("/sys/fs/cgroup", func(p string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(p, id) {
			found = append(found, p)
		}
		return nil
	})
	return found
}

// TestKill kills byre run at several moments. What it used is gone within two
// seconds, and its folder with the next system that anybody makes.
func TestKill(t *testing.T) {
	begin(t)
	newVM := func(ctx context.Context, t *testing.T, _ string) { // cheaper than a run
		if err := create(ctx, t, options(t)).Close(); err != nil {
			t.Error(err)
		}
	}
	for i, c := range []struct {
		name string
		when func(context.Context, *testing.T, *child)
		next func(ctx context.Context, t *testing.T, id string)
	}{
		{"when it has begun", func(ctx context.Context, t *testing.T, c *child) {
			until(ctx, t, "the folder", patience, func() bool {
				_, err := os.Lstat(filepath.Join("/run/byre", c.id))
				return err == nil || c.isOver()
			})
		}, newVM},
		{"when QEMU is there", func(ctx context.Context, t *testing.T, c *child) {
			until(ctx, t, "QEMU", patience, func() bool { return vmm(t, c.id) != 0 || c.isOver() })
		}, newVM},
		{"while the guest boots", func(ctx context.Context, t *testing.T, c *child) {
			until(ctx, t, "QEMU", patience, func() bool { return vmm(t, c.id) != 0 || c.isOver() })
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
		}, newVM},
		{"while the command runs", func(_ context.Context, _ *testing.T, c *child) {
			select {
			case <-c.ready:
			case <-c.ended:
			}
		}, func(ctx context.Context, t *testing.T, id string) {
			p := startRun(ctx, t, id, "true") // of the same name
			<-p.ended
			if p.err != nil {
				t.Errorf("the next run: %v; %s", p.err, &p.stderr)
			}
		}},
	} {
		step(t, c.name, func(ctx context.Context, t *testing.T) {
			id := fmt.Sprintf("test-kill-%d-%d", os.Getpid(), i)
			p := startRun(ctx, t, id)
			c.when(ctx, t, p)
			if p.isOver() {
				t.Fatalf("byre ended: %v; %s", p.err, &p.stderr)
			}
			select {
			case <-p.ready:
				f, err := os.OpenFile(filepath.Join(p.folder, "lock"), os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EAGAIN) {
					t.Errorf("locking what the command has: %v", err)
				}
				f.Close()
			default:
			}
			p.cmd.Process.Kill()
			<-p.ended
			began := time.Now()
			until(ctx, t, "the end of what was used", 2*time.Second, func() bool { return len(traces(id)) == 0 })
			if found := traces(id); len(found) > 0 {
				t.Errorf("left: %q", found)
			}
			hostLocks(t, filepath.Join(p.folder, "lock")).Close()
			t.Logf("gone after %v", time.Since(began).Round(time.Millisecond))
			c.next(ctx, t, id)
			if _, err := os.Lstat(filepath.Join("/run/byre", id)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the folder is left: %v", err)
			}
		})
	}
}

// TestInterrupt sends SIGINT to byre run at moments of its whole time. It ends
// with code 130 and leaves nothing.
func TestInterrupt(t *testing.T) {
	ctx := begin(t)
	began := time.Now()
	whole := startRun(ctx, t, fmt.Sprintf("test-int-%d", os.Getpid()))
	select {
	case <-whole.ready:
	case <-whole.ended:
		t.Fatalf("byre ended: %v; %s", whole.err, &whole.stderr)
	}
	took := time.Since(began)
	whole.interrupted(t)
	const times = 8
	var wg sync.WaitGroup
	slots := make(chan struct{}, 2)
	for i := range times {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			t.Run(fmt.Sprintf("moment %d of %d", i, times), func(t *testing.T) {
				p := startRun(ctx, t, fmt.Sprintf("test-int-%d-%d", os.Getpid(), i))
				select {
				case <-time.After(took * time.Duration(i) / times): // the moment is what is tested
				case <-p.ready:
				}
				p.interrupted(t)
			})
		})
	}
	wg.Wait()
}

// interrupted interrupts byre, once more when its command runs after all, and
// checks how it ends.
func (c *child) interrupted(t *testing.T) {
	t.Helper()
	c.cmd.Process.Signal(os.Interrupt)
	select {
	case <-c.ready: // the first one may have come before the command could handle it
		c.cmd.Process.Signal(os.Interrupt)
	case <-c.ended:
	}
	<-c.ended
	var exit *exec.ExitError
	switch {
	case errors.As(c.err, &exit) && exit.ExitCode() == 130:
	case errors.As(c.err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGINT: // before byre caught it
	default:
		t.Errorf("got %v, want exit code 130; %s", c.err, &c.stderr)
	}
}
