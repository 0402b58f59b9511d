package qemu

import (
	"io"
	"os/exec"
	"syscall"
)

// A watcher removes the cgroups of a system whose owner was killed: the
// kernel keeps an empty cgroup, and nobody else outlives the owner. It is a
// shell that waits for the end of a pipe whose other end only the owner has.
type watcher struct {
	cmd  *exec.Cmd
	pipe io.Closer
}

// The folders are busy until the kernel has done away with QEMU; a shell has
// no way to be told. When the owner has removed them itself there is nothing
// to do.
const watchScript = `read -r _
n=0
while [ $n -lt 100 ]; do
	left=
	for d; do
		[ ! -d "$d" ] || rmdir "$d" 2>/dev/null || left=1
	done
	[ -n "$left" ] || exit 0
	n=$((n + 1))
	sleep 0.02
done
exit 1`

// watch starts a watcher of dirs.
func watch(dirs []string) (*watcher, error) {
	w := &watcher{cmd: exec.Command("/bin/sh", append([]string{"-c", watchScript, "byre-watch"}, dirs...)...)}
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	w.cmd.Dir = "/"
	pipe, err := w.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	w.pipe = pipe
	if err := w.cmd.Start(); err != nil {
		pipe.Close()
		return nil, err
	}
	return w, nil
}

// stop ends the watcher, after the owner has removed the folders.
func (w *watcher) stop() {
	w.pipe.Close()
	w.cmd.Wait()
}
