//go:build linux

// Command share checks in a guest that a folder which the host shares is a
// folder of Linux. Its arguments are the folder and what it is: "plain",
// "readonly" or "restricted"; or a file and what to do with it: "lock" tries its
// locks, "keep" takes them until its input ends, "block" waits for one, "waits"
// does so with signals, "follow" says for each line of its input what it is like;
// or "flock" and an operation on the open file 3. It prints a line for each
// thing that is not as it should be.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

var failed bool

func wrong(format string, args ...any) {
	failed = true
	fmt.Printf(format+"\n", args...)
}

// must ends a part that cannot go on.
func must(what string, err error) {
	if err != nil {
		panic(fmt.Errorf("%s: %w", what, err))
	}
}

func want(what string, err, want error) {
	if !errors.Is(err, want) {
		wrong("%s: got %v, want %v", what, err, want)
	}
}

func main() {
	if len(os.Args) != 3 {
		wrong("usage: share FOLDER KIND")
		os.Exit(2)
	}
	dir := os.Args[1]
	parts := map[string][]func(string){
		"plain":      {names, data, large, mapped, metadata, attributes, locks, special, many, shared, inherited, replaced, sparse},
		"readonly":   {readOnly},
		"restricted": {restricted},
		"lock":       {hold},
		"flock":      {flock},
		"keep":       {keep},
		"block":      {block},
		"waits":      {interrupted, killed, aside},
		"follow":     {follow},
	}[os.Args[2]]
	if parts == nil {
		wrong("what is %q", os.Args[2])
	}
	for i, part := range parts {
		d := dir
		if os.Args[2] == "plain" {
			d = filepath.Join(dir, fmt.Sprint("part", i))
			must("mkdir", os.Mkdir(d, 0o755))
		}
		func() {
			defer func() {
				if r := recover(); r != nil {
					wrong("%v", r)
				}
			}()
			part(d)
		}()
	}
	if failed {
		os.Exit(1)
	}
}

func names(dir string) {
	in := func(n string) string { return filepath.Join(dir, n) }
	must("create", os.WriteFile(in("a"), []byte("text"), 0o644))
	_, err := os.OpenFile(in("a"), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
	want("create what is there", err, fs.ErrExist)
	must("mkdir", os.MkdirAll(in("d/e/f"), 0o755))
	must("rename", os.Rename(in("a"), in("d/b")))
	must("rename of a folder", os.Rename(in("d/e"), in("e2")))
	_, err = os.Stat(in("a"))
	want("a renamed file", err, fs.ErrNotExist)
	must("symlink", os.Symlink("../x/../d/b", in("s")))
	if l, err := os.Readlink(in("s")); l != "../x/../d/b" || err != nil {
		wrong("readlink: %q, %v", l, err)
	}
	must("link", os.Link(in("d/b"), in("h")))
	must("append", appendTo(in("h"), "more"))
	if b, err := os.ReadFile(in("d/b")); string(b) != "textmore" {
		wrong("a linked file: %q, %v", b, err)
	}
	var st unix.Stat_t
	if err := unix.Stat(in("h"), &st); err != nil || st.Nlink != 2 {
		wrong("a linked file has %d links, %v", st.Nlink, err)
	}
	want("rmdir of a full folder", unix.Rmdir(in("d")), unix.ENOTEMPTY)
	must("unlink", os.Remove(in("d/b")))
	must("rmdir", os.Remove(in("d")))
	// A file that is removed is there as long as it is open.
	f, err := os.OpenFile(in("h"), os.O_RDWR, 0)
	must("open", err)
	defer f.Close()
	must("unlink", os.Remove(in("h")))
	if _, err := f.WriteAt([]byte("T"), 0); err != nil {
		wrong("write of a removed file: %v", err)
	}
	b := make([]byte, 8)
	if _, err := f.ReadAt(b, 0); err != nil || string(b) != "Textmore" {
		wrong("read of a removed file: %q, %v", b, err)
	}
	// What links lead to is the guest's.
	must("symlink", os.Symlink("/proc/self/status", in("p")))
	if b, err := os.ReadFile(in("p")); err != nil || !bytes.Contains(b, fmt.Appendf(nil, "Pid:\t%d\n", os.Getpid())) {
		wrong("a link out of the share leads elsewhere: %v", err)
	}
}

func appendTo(name, s string) error {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(s)
	return errors.Join(err, f.Close())
}

func data(dir string) {
	p := filepath.Join(dir, "f")
	content := make([]byte, 5<<20+321)
	for i := range content {
		content[i] = byte(i*7 + i>>9)
	}
	must("write", os.WriteFile(p, content, 0o600))
	b, err := os.ReadFile(p)
	if err != nil || !bytes.Equal(b, content) {
		wrong("read back %d bytes that differ, %v", len(b), err)
	}
	f, err := os.OpenFile(p, os.O_RDWR, 0)
	must("open", err)
	defer f.Close()
	must("truncate", f.Truncate(100))
	must("fsync", f.Sync())
	must("fdatasync", unix.Fdatasync(int(f.Fd())))
	if fi, err := f.Stat(); err != nil || fi.Size() != 100 {
		wrong("size after truncate: %v", err)
	}
	d, err := os.Open(dir)
	must("open of the folder", err)
	defer d.Close()
	must("fsync of the folder", d.Sync())
	// Several that append do not overwrite each other.
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range 25 {
				if err := appendTo(p, strings.Repeat(string(rune('a'+i)), 10)); err != nil {
					wrong("append: %v", err)
				}
			}
		})
	}
	wg.Wait()
	b, _ = os.ReadFile(p)
	if len(b) != 100+4*25*10 {
		wrong("after appends there are %d bytes", len(b))
	}
	for i := range 4 {
		if n := bytes.Count(b, []byte{byte('a' + i)}); n < 250 {
			wrong("%d bytes of an appender are there", n)
		}
	}
}

func large(dir string) {
	f, err := os.Create(filepath.Join(dir, "large"))
	must("create", err)
	defer f.Close()
	const far = 5 << 30
	_, err = f.WriteAt([]byte("far"), far)
	must("write beyond 4 GiB", err)
	b := make([]byte, 3)
	if _, err := f.ReadAt(b, far); err != nil || string(b) != "far" {
		wrong("read beyond 4 GiB: %q, %v", b, err)
	}
	if _, err := f.ReadAt(b, far/2); err != nil || string(b) != "\x00\x00\x00" {
		wrong("read of a hole: %q, %v", b, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Size != far+3 || st.Blocks*512 > 1<<20 {
		wrong("a sparse file of %d bytes has %d blocks, %v", st.Size, st.Blocks, err)
	}
}

func mapped(dir string) {
	p := filepath.Join(dir, "m")
	content := bytes.Repeat([]byte("0123456789abcdef"), 20000)
	must("write", os.WriteFile(p, content, 0o644))
	f, err := os.Open(p)
	must("open", err)
	defer f.Close()
	m, err := unix.Mmap(int(f.Fd()), 0, len(content), unix.PROT_READ, unix.MAP_PRIVATE)
	must("mmap", err)
	if !bytes.Equal(m, content) {
		wrong("a mapped file differs")
	}
	must("munmap", unix.Munmap(m))
	// A program is mapped, too.
	exe, err := os.ReadFile("/proc/self/exe")
	must("read of the program", err)
	p = filepath.Join(dir, "program")
	must("write", os.WriteFile(p, exe, 0o755))
	out, err := exec.Command(p).CombinedOutput()
	if !strings.HasPrefix(string(out), "usage: share") {
		wrong("running a program: %q, %v", out, err)
	}
}

// shared maps a file as databases do: what is written by the mapping is read
// from the file, and what is written to the file is seen in the mapping.
func shared(dir string) {
	p := filepath.Join(dir, "m")
	const size = 20000
	must("write", os.WriteFile(p, make([]byte, size), 0o644))
	f, err := os.OpenFile(p, os.O_RDWR, 0)
	must("open", err)
	defer f.Close()
	r, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	must("mmap for reading of a file that is open for writing", err)
	_, err = f.WriteAt([]byte("written"), 5000)
	must("write", err)
	if got := string(r[5000:5007]); got != "written" {
		wrong("a mapping has %q of what was written to the file", got)
	}
	m, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must("mmap for writing", err)
	read := func(at int64) string {
		b := make([]byte, 6)
		if _, err := f.ReadAt(b, at); err != nil {
			wrong("read: %v", err)
		}
		return string(b)
	}
	copy(m[100:], "synced")
	must("msync", unix.Msync(m, unix.MS_SYNC))
	if got := read(100); got != "synced" || string(r[100:106]) != got {
		wrong("after msync the file has %q, another mapping %q", got, r[100:106])
	}
	copy(m[size-6:], "at end")
	must("munmap", unix.Munmap(m))
	if got := read(size - 6); got != "at end" {
		wrong("after munmap the file has %q", got)
	}
	must("munmap", unix.Munmap(r))
	if fi, err := f.Stat(); err != nil || fi.Size() != size {
		wrong("the size after all: %v", err)
	}
}

func metadata(dir string) {
	p := filepath.Join(dir, "f")
	must("write", os.WriteFile(p, nil, 0o640))
	must("chown", os.Chown(p, 1234, 5678))
	must("chmod", os.Chmod(p, 0o751|fs.ModeSetuid))
	at, mt := time.Unix(1e9, 123456789), time.Unix(1.1e9, 987654321)
	if by9P(dir) {
		at, mt = at.Truncate(time.Second), mt.Truncate(time.Second) // Linux sets no parts of them there
	}
	must("utimes", os.Chtimes(p, at, mt))
	var st unix.Stat_t
	must("stat", unix.Stat(p, &st))
	if st.Uid != 1234 || st.Gid != 5678 || st.Mode != unix.S_IFREG|0o4751 || st.Atim.Nano() != at.UnixNano() || st.Mtim.Nano() != mt.UnixNano() {
		wrong("got %d:%d, mode %o, times %v %v", st.Uid, st.Gid, st.Mode, st.Atim, st.Mtim)
	}
	// What another user makes is that user's.
	open := filepath.Join(dir, "open")
	must("mkdir", os.Mkdir(open, 0o777))
	must("chmod", os.Chmod(open, 0o777|fs.ModeSticky))
	sh := exec.Command("/bin/sh", "-c", "umask 027; mkdir "+open+"/d && echo x >"+open+"/f && ln -s f "+open+"/s; echo y >"+dir+"/no")
	sh.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 4321, Gid: 8765}}
	if out, err := sh.CombinedOutput(); err == nil || !strings.Contains(string(out), "denied") {
		wrong("another user could write to root's folder: %s, %v", out, err)
	}
	for name, mode := range map[string]uint32{"d": unix.S_IFDIR | 0o750, "f": unix.S_IFREG | 0o640, "s": unix.S_IFLNK | 0o777} {
		if err := unix.Lstat(filepath.Join(open, name), &st); err != nil || st.Uid != 4321 || st.Gid != 8765 || st.Mode != mode {
			wrong("%s is of %d:%d with mode %o, %v", name, st.Uid, st.Gid, st.Mode, err)
		}
	}
	var sf unix.Statfs_t
	if err := unix.Statfs(dir, &sf); err != nil || sf.Blocks == 0 {
		wrong("statfs: type %#x, %d blocks, %v", sf.Type, sf.Blocks, err)
	}
}

func attributes(dir string) {
	p := filepath.Join(dir, "f")
	must("write", os.WriteFile(p, nil, 0o644))
	value := bytes.Repeat([]byte("v"), 3000)
	must("setxattr", unix.Setxattr(p, "user.one", value, 0))
	must("setxattr", unix.Setxattr(p, "user.two", nil, 0))
	want("setxattr of one that is there", unix.Setxattr(p, "user.one", nil, unix.XATTR_CREATE), unix.EEXIST)
	b := make([]byte, 4000)
	if n, err := unix.Getxattr(p, "user.one", b); err != nil || !bytes.Equal(b[:n], value) {
		wrong("getxattr: %d bytes, %v", n, err)
	}
	n, err := unix.Listxattr(p, b)
	names := strings.Split(strings.TrimRight(string(b[:max(n, 0)]), "\x00"), "\x00")
	slices.Sort(names)
	if err != nil || !slices.Equal(names, []string{"user.one", "user.two"}) {
		wrong("listxattr: %q, %v", names, err)
	}
	must("removexattr", unix.Removexattr(p, "user.one"))
	_, err = unix.Getxattr(p, "user.one", b)
	want("getxattr of a removed one", err, unix.ENODATA)
}

func locks(dir string) {
	p := filepath.Join(dir, "lock")
	must("write", os.WriteFile(p, []byte("0123456789"), 0o644))
	f, err := os.OpenFile(p, os.O_RDWR, 0)
	must("open", err)
	defer f.Close()
	lock := func(typ int16, start int64) error {
		return unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: typ, Start: start, Len: 5})
	}
	must("lock", lock(unix.F_WRLCK, 0))
	other := func() string {
		out, err := exec.Command("/proc/self/exe", p, "lock").CombinedOutput()
		if err != nil {
			return err.Error()
		}
		return string(out)
	}
	flock := "free"
	if by9P(dir) {
		flock = "busy" // it does not tell the two kinds apart
	}
	if out := other(); out != "write 0: busy\nwrite 5: free\nflock: "+flock+"\n" {
		wrong("another process: %q", out)
	}
	must("unlock", lock(unix.F_UNLCK, 0))
	if out := other(); out != "write 0: free\nwrite 5: free\nflock: free\n" {
		wrong("another process after unlock: %q", out)
	}
}

// The lock of an open file is that of every process that has it.
func inherited(dir string) {
	p := filepath.Join(dir, "flock")
	f, err := os.Create(p)
	must("create", err)
	defer f.Close()
	child := func(operation string) {
		cmd := exec.Command("/proc/self/exe", operation, "flock")
		cmd.ExtraFiles = []*os.File{f}
		if out, err := cmd.CombinedOutput(); err != nil {
			wrong("flock %s by another process: %s, %v", operation, out, err)
		}
	}
	other, err := os.Open(p)
	must("open", err)
	defer other.Close()
	try := func() error { return unix.Flock(int(other.Fd()), unix.LOCK_SH|unix.LOCK_NB) }
	child("lock")
	want("what another process has locked", try(), unix.EAGAIN)
	child("lock")
	child("share")
	must("a shared lock", try())
	must("unlock", unix.Flock(int(other.Fd()), unix.LOCK_UN))
	child("lock")
	child("unlock")
	must("what another process has unlocked", try())
}

// flock locks the file that this process was given.
func flock(operation string) {
	must("flock", unix.Flock(3, map[string]int{"lock": unix.LOCK_EX, "share": unix.LOCK_SH, "unlock": unix.LOCK_UN}[operation]))
}

// hold tries the locks of a file.
func hold(p string) {
	f, err := os.OpenFile(p, os.O_RDWR, 0)
	must("open", err)
	defer f.Close()
	say := func(what string, err error) {
		switch {
		case err == nil:
			fmt.Println(what + ": free")
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EACCES):
			fmt.Println(what + ": busy")
		default:
			wrong("%s: %v", what, err)
		}
	}
	for _, start := range []int64{0, 5} {
		say(fmt.Sprint("write ", start), unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Start: start, Len: 5}))
	}
	must("unlock", unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_UNLCK}))
	say("flock", unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB))
}

func special(dir string) {
	for name, err := range map[string]error{
		"fifo":   unix.Mkfifo(filepath.Join(dir, "fifo"), 0o666),
		"device": unix.Mknod(filepath.Join(dir, "null"), unix.S_IFCHR|0o666, 1<<8|3),
		"socket": unix.Mknod(filepath.Join(dir, "socket"), unix.S_IFSOCK|0o666, 0),
	} {
		want(name, err, unix.EPERM)
	}
}

func many(dir string) {
	var names []string
	for i := range 300 {
		n := fmt.Sprintf("%03d%s", i, strings.Repeat("n", i%60))
		names = append(names, n)
		must("create", os.WriteFile(filepath.Join(dir, n), []byte(n), 0o644))
	}
	entries, err := os.ReadDir(dir)
	must("readdir", err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, names) {
		wrong("%d names, want %d", len(got), len(names))
	}
	must("removal of all", os.RemoveAll(dir))
}

func readOnly(dir string) {
	in := func(n string) string { return filepath.Join(dir, n) }
	if b, err := os.ReadFile(in("f")); string(b) != "host" || err != nil {
		wrong("read: %q, %v", b, err)
	}
	for what, err := range map[string]error{
		"write":   os.WriteFile(in("f"), nil, 0o644),
		"create":  os.WriteFile(in("new"), nil, 0o644),
		"mkdir":   os.Mkdir(in("new"), 0o755),
		"symlink": os.Symlink("x", in("new")),
		"link":    os.Link(in("f"), in("new")),
		"rename":  os.Rename(in("f"), in("new")),
		"remove":  os.Remove(in("f")),
		"chmod":   os.Chmod(in("f"), 0),
		"xattr":   unix.Setxattr(in("f"), "user.x", nil, 0),
	} {
		want(what, err, unix.EROFS)
	}
}

func restricted(dir string) {
	in := func(n string) string { return filepath.Join(dir, n) }
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "f" {
		wrong("readdir: %v, %v", entries, err)
	}
	if b, err := os.ReadFile(in("f")); string(b) != "host" || err != nil {
		wrong("read: %q, %v", b, err)
	}
	_, err = os.Stat(in("secret"))
	want("a hidden name", err, fs.ErrNotExist)
	want("create", os.WriteFile(in("new"), nil, 0o644), unix.EPERM)
	want("overwrite", os.WriteFile(in("secret"), nil, 0o644), unix.EPERM)
	want("rename over a hidden name", os.Rename(in("f"), in("secret")), unix.EPERM)
	must("write", os.WriteFile(in("f"), []byte("guest"), 0o644))
}
