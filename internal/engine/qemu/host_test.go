//go:build linux

package qemu

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/byrevm/byre/hcs"
)

func testRun(t *testing.T) *runFolder {
	t.Helper()
	return &runFolder{path: filepath.Join(t.TempDir(), "run"), log: slog.New(slog.DiscardHandler)}
}

func TestClaim(t *testing.T) {
	r := testRun(t)
	for _, id := range []string{"vm-1", "uvm@vm", "../../etc", "a b", strings.Repeat("x", 300), ".lock", "_x"} {
		c, err := r.claim(id)
		if err != nil {
			t.Fatalf("%q: %v", id, err)
		}
		if filepath.Dir(c.dir) != r.path {
			t.Errorf("%q is claimed by %s", id, c.dir)
		}
		if _, err := r.claim(id); !errors.Is(err, hcs.ErrAlreadyExists) {
			t.Errorf("%q twice: %v", id, err)
		}
		if err := c.release(); err != nil {
			t.Error(err)
		}
		if err := c.release(); err != nil { // again
			t.Error(err)
		}
		again, err := r.claim(id)
		if err != nil {
			t.Errorf("%q after release: %v", id, err)
		} else if err := again.release(); err != nil {
			t.Error(err)
		}
	}
}

// What a dead owner left is removed, and only that.
func TestStaleClaim(t *testing.T) {
	r := testRun(t)
	dir := t.TempDir()
	socket, text, group := filepath.Join(dir, "socket"), writeFile(t, "text", []byte("x")), filepath.Join(dir, "cgroup")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Fatal(err)
	}
	vmm := exec.Command("sleep", "1000")
	if err := vmm.Start(); err != nil {
		t.Fatal(err)
	}
	defer vmm.Process.Kill()
	st, err := readStat(vmm.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	other := exec.Command("sleep", "1000") // has the id of a process that is long dead
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { other.Process.Kill(); other.Wait() }()

	leave := func(id string, change func(*record)) string {
		c, err := r.claim(id)
		if err == nil {
			err = c.note(change)
		}
		if err != nil {
			t.Fatal(err)
		}
		return c.dir
	}
	live, err := r.claim("live")
	if err != nil {
		t.Fatal(err)
	}
	// An owner dies: its lock goes with it.
	a := leave("dead", func(rec *record) {
		rec.VMM = proc{vmm.Process.Pid, st.start}
		rec.Sockets = []string{socket, text, filepath.Join(dir, "never-made")}
		rec.Cgroups = []string{group, filepath.Join(dir, "never-made")}
	})
	b := leave("reused", func(rec *record) { rec.VMM = proc{other.Process.Pid, 1} })
	unlockAll(t, a, b)

	c, err := r.claim("dead") // its own id, too, is free
	if err != nil {
		t.Fatal(err)
	}
	defer c.release()
	if err := vmm.Wait(); err == nil {
		t.Error("the VMM was not killed")
	}
	for _, p := range []string{socket, group, b} {
		if _, err := os.Lstat(p); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there", p)
		}
	}
	for _, p := range []string{text, live.dir} {
		if _, err := os.Lstat(p); err != nil {
			t.Error(err)
		}
	}
	if !(proc{other.Process.Pid, mustStart(t, other.Process.Pid)}).alive() {
		t.Error("a process was killed that is none of ours")
	}
}

// unlockAll closes the locks of claims, as the end of their owner would.
func unlockAll(t *testing.T, dirs ...string) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		link, _ := os.Readlink("/proc/self/fd/" + fd.Name())
		for _, d := range dirs {
			if link == filepath.Join(d, lockFile) {
				var n int
				fmt.Sscan(fd.Name(), &n)
				if err := syscall.Flock(n, syscall.LOCK_UN); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

func mustStart(t *testing.T, pid int) uint64 {
	t.Helper()
	st, err := readStat(pid)
	if err != nil {
		t.Fatal(err)
	}
	return st.start
}

// Of many who claim one id, one gets it; users differ.
func TestClaimConcurrent(t *testing.T) {
	r := testRun(t)
	var won atomic.Int32
	var wg sync.WaitGroup
	claims := make(chan *claim, 40)
	for i := range 20 {
		wg.Go(func() {
			c, err := r.claim("same")
			if err == nil {
				won.Add(1)
				claims <- c
			} else if !errors.Is(err, hcs.ErrAlreadyExists) {
				t.Error(err)
			}
		})
		wg.Go(func() {
			c, err := r.claim(fmt.Sprint("vm", i))
			if err != nil {
				t.Error(err)
				return
			}
			claims <- c
		})
	}
	wg.Wait()
	close(claims)
	if won.Load() != 1 {
		t.Errorf("%d claims of one id", won.Load())
	}
	uids := make(map[uint32]bool)
	for c := range claims {
		if uid := c.rec.UID; uid != 0 && uid != nobody && uids[uid] {
			t.Errorf("user %d twice", uid)
		}
		uids[c.rec.UID] = true
		if err := c.release(); err != nil {
			t.Error(err)
		}
	}
}

// A run folder that others can write is not used.
func TestRunFolderOfOthers(t *testing.T) {
	r := testRun(t)
	if err := os.Mkdir(r.path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(r.path, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := r.claim("vm"); err == nil || !strings.Contains(err.Error(), "only this user") {
		t.Errorf("got %v", err)
	}
}

func TestConsole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "console")
	ours, theirs, err := socketpair("console")
	if err != nil {
		t.Fatal(err)
	}
	c, err := newConsole(t.Context(), ours, path)
	if err != nil {
		t.Fatal(err)
	}
	guest, err := net.FileConn(theirs)
	theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer guest.Close()
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 || fi.Mode().Type() != fs.ModeSocket {
		t.Errorf("the socket is %v, %v", fi, err)
	}
	fmt.Fprint(guest, "early\n")
	dial := func() (net.Conn, *bufio.Reader) {
		t.Helper()
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		return conn, bufio.NewReader(conn)
	}
	read := func(r *bufio.Reader, want string) {
		t.Helper()
		if got, err := r.ReadString('\n'); got != want+"\n" {
			t.Errorf("read %q, %v; want %q", got, err, want)
		}
	}
	one, r1 := dial()
	read(r1, "early")
	fmt.Fprint(guest, "late\n")
	read(r1, "late")
	fmt.Fprint(one, "typed\n")
	if got, err := bufio.NewReader(guest).ReadString('\n'); got != "typed\n" {
		t.Errorf("the guest read %q, %v", got, err)
	}
	two, r2 := dial() // waits its turn
	one.Close()
	read(r2, "early")
	read(r2, "late")
	defer two.Close()
	// A client that reads nothing does not hold the guest.
	for range 2000 {
		if _, err := guest.Write([]byte(strings.Repeat("x", 1023) + "\n")); err != nil {
			t.Fatal(err)
		}
	}
	fmt.Fprint(guest, "last words")
	guest.Close()
	<-c.done
	if got := c.text.last(); got != "last words" {
		t.Errorf("last line %q", got)
	}
	two.Close()
	c.close()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

// A client that is there when the guest goes reads to the end.
func TestConsoleEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "console")
	ours, theirs, err := socketpair("console")
	if err != nil {
		t.Fatal(err)
	}
	c, err := newConsole(t.Context(), ours, path)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	theirs.Write([]byte("hello\n"))
	r := bufio.NewReader(conn)
	if got, err := r.ReadString('\n'); got != "hello\n" { // it is being served
		t.Fatalf("read %q, %v", got, err)
	}
	theirs.Write([]byte("bye"))
	theirs.Close()
	if got, err := io.ReadAll(r); string(got) != "bye" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	conn.Close()
	c.close()
}

func TestClock(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "clock"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		serveClock(l)
		close(done)
	}()
	conns := make([]net.Conn, 0, maxClockConns)
	for i := range maxClockConns {
		c, err := net.Dial("unix", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		for n := range 3 {
			nonce := fmt.Sprintf("nonce%d%02d", n, i)
			before := time.Now()
			fmt.Fprint(c, nonce)
			var b [16]byte
			if _, err := io.ReadFull(c, b[:]); err != nil {
				t.Fatal(err)
			}
			at := time.Unix(0, int64(binary.LittleEndian.Uint64(b[8:])))
			if string(b[:8]) != nonce || at.Before(before.Round(0)) || at.After(time.Now()) {
				t.Errorf("got %q, %v", b[:8], at)
			}
		}
	}
	extra, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := extra.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Error("more connections than there are slots")
	}
	for _, c := range append(conns, extra) {
		c.Close()
	}
	l.Close()
	<-done
}

func TestParseCgroups(t *testing.T) {
	own := parseOwn("9:name=systemd:/\n4:memory:/a/b\n2:cpu,cpuacct:/x:y\n0::/user.slice/s\n")
	for c, want := range map[string]string{"memory": "/a/b", "cpu": "/x:y", "cpuacct": "/x:y", "": "/user.slice/s"} {
		if own[c] != want {
			t.Errorf("own cgroup of %q is %q, want %q", c, own[c], want)
		}
	}
	for _, c := range []struct {
		line, path, want string
		ok               bool
	}{
		{"31 24 0:27 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory", "/a/b", "/sys/fs/cgroup/memory/a/b", true},
		{"31 24 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate", "/", "/sys/fs/cgroup", true},
		{"31 24 0:27 /docker/1 /sys/fs/cgroup/cpu ro shared:1 - cgroup cgroup rw,cpu", "/docker/1/x", "/sys/fs/cgroup/cpu/x", true},
		{"31 24 0:27 /docker/1 /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu", "/docker/2", "", false},
		{"31 24 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw", "", "", false},
	} {
		m, ok := parseMount(c.line)
		if !ok {
			t.Errorf("%s: not understood", c.line)
			continue
		}
		if got, ok := m.under(c.path); got != c.want || ok != c.ok {
			t.Errorf("%s under %s: got %q, %v; want %q", c.path, c.line, got, ok, c.want)
		}
	}
	for _, line := range []string{"", "31 24 0:27 / /x rw - tmpfs tmpfs rw", "31 - cgroup", "1 2 3 4 5 6 - cgroup x"} {
		if _, ok := parseMount(line); ok {
			t.Errorf("%q was understood", line)
		}
	}
}

// Limits end in the files of cgroups, of both versions.
func TestCgroupLimits(t *testing.T) {
	m := &machine{processors: 2, shares: shares{limit: 25_000, weight: 200}}
	for name, c := range map[string]struct {
		host func(root string) *cgroupHost
		want map[string]string
	}{
		"version 1": {
			func(root string) *cgroupHost { return &cgroupHost{v1: map[string]string{"cpu": root}} },
			map[string]string{"byre-vm/cpu.cfs_period_us": "100000", "byre-vm/cpu.cfs_quota_us": "50000", "byre-vm/cpu.shares": "2048", "byre-vm/cgroup.procs": "42"},
		},
		"version 2": {
			func(root string) *cgroupHost { return &cgroupHost{unified: root} },
			map[string]string{"byre-vm/cpu.max": "50000 100000", "byre-vm/cpu.weight": "200", "byre-vm/cgroup.procs": "42"},
		},
		"version 2, below a slice": {
			func(root string) *cgroupHost {
				own := filepath.Join(root, "own")
				os.Mkdir(own, 0o755)
				os.WriteFile(filepath.Join(own, "cgroup.type"), nil, 0o644)
				return &cgroupHost{unified: own}
			},
			map[string]string{"byre-vm/cpu.max": "50000 100000"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			g, dirs := c.host(root).plan("vm")
			if err := g.make(m); err != nil {
				t.Fatal(err)
			}
			if err := g.add(42); err != nil {
				t.Fatal(err)
			}
			for file, text := range c.want {
				if got, err := os.ReadFile(filepath.Join(root, file)); string(got) != text {
					t.Errorf("%s holds %q, %v; want %q", file, got, err, text)
				}
			}
			for _, d := range g.made {
				if !strings.Contains(fmt.Sprint(dirs), d) {
					t.Errorf("%s was not planned: %v", d, dirs)
				}
			}
		})
	}
	t.Run("nothing to make them in", func(t *testing.T) {
		g, _ := (&cgroupHost{}).plan("vm")
		if err := g.make(m); !errors.Is(err, hcs.ErrNotSupported) {
			t.Errorf("got %v, want ErrNotSupported", err)
		}
		if err := g.make(&machine{}); err != nil {
			t.Errorf("without limits: %v", err)
		}
	})
}

func TestHasFlag(t *testing.T) {
	for text, want := range map[string]bool{
		"processor\t: 0\nflags\t\t: fpu vmx sse\n":           true,
		"flags\t\t: fpu svm\n":                               true,
		"flags\t\t: fpu vmxx\nvmx flags\t: x\n":              false,
		"model name\t: vmx svm\nflags\t\t: fpu hypervisor\n": false,
		"": false,
	} {
		if got := hasFlag([]byte(text), "vmx", "svm"); got != want {
			t.Errorf("%q: got %v", text, got)
		}
	}
}

func TestCredential(t *testing.T) {
	if c := credential(0, AccelTCG); c != nil {
		t.Errorf("user 0: %+v", c)
	}
	c := credential(firstUID, AccelTCG)
	if c == nil || c.Uid != firstUID || c.Gid != firstUID || len(c.Groups) != 0 {
		t.Errorf("got %+v", c)
	}
	p := writeFile(t, "f", []byte("x"))
	for mode, want := range map[os.FileMode]bool{0o600: false, 0o644: true, 0o640: false, 0o004: true} {
		if err := os.Chmod(p, mode); err != nil {
			t.Fatal(err)
		}
		fi, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if got := readableBy(fi, c); got != want {
			t.Errorf("mode %o is readable: %v, want %v", mode, got, want)
		}
		if !readableBy(fi, nil) {
			t.Errorf("mode %o is not readable by the owner", mode)
		}
	}
}

func TestMapping(t *testing.T) {
	m := mapping{{0, 1}, {1, 65536}}
	for id, want := range map[uint32]bool{0: true, nobody: true, 65536: true, 65537: false, firstUID: false} {
		if got := m.has(id); got != want {
			t.Errorf("%d exists: %v, want %v", id, got, want)
		}
	}
}
