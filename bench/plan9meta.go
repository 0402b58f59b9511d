//go:build linux

package main

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
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cavaliergopher/cpio"
)

// metaFiles is how many files are created, looked at and read.
const metaFiles = 200

// metaOperations are what is done to each file, in the order in which
// testdata/share does it.
var metaOperations = []string{"plan9-create", "plan9-lstat", "plan9-open"}

// meta is the one measurement of all of them.
var meta struct {
	once    sync.Once
	results []result
	err     error
}

// plan9Meta returns a benchmark that compares how many files of a shared folder
// a guest creates, looks at, or opens and reads in a second with what it does
// on QEMU's own virtio-9p, in a VM of the same kernel. All are measured
// together, in turns, by the first that runs.
func plan9Meta(operation int) func(context.Context, setup) (result, error) {
	return func(ctx context.Context, s setup) (result, error) {
		meta.once.Do(func() { meta.results, meta.err = measureMeta(ctx, s) })
		if meta.err != nil {
			return result{}, meta.err
		}
		return meta.results[operation], nil
	}
}

func measureMeta(ctx context.Context, s setup) (results []result, err error) {
	theirs, err := newVirtioVM(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("QEMU with its own file server: %w", err)
	}
	defer theirs.close()
	all := make([][2][]float64, len(metaOperations)) // files a second of both sides
	r, err := plan9(ctx, "plan9-meta", "files/s", "virtio-9p", func(ctx context.Context, d *sharedVM) (float64, float64, error) {
		ours, err := d.run(ctx, nil, nil, "meta", d.at, strconv.Itoa(metaFiles))
		if err != nil {
			return 0, 0, err
		}
		bare, err := theirs.run()
		if err != nil {
			return 0, 0, err
		}
		var sum [2]float64
		for side, took := range [][]float64{ours, bare} {
			if len(took) != len(metaOperations) {
				return 0, 0, fmt.Errorf("got %d times, want %d", len(took), len(metaOperations))
			}
			for i, t := range took {
				all[i][side] = append(all[i][side], metaFiles/t)
				sum[side] += t
			}
		}
		n := float64(metaFiles * len(metaOperations))
		return n / sum[0], n / sum[1], nil
	})
	if err != nil {
		return nil, err
	}
	for i, name := range metaOperations {
		results = append(results, result{
			Name: name, Unit: r.Unit, N: r.N, Ours: median(all[i][0]), Theirs: median(all[i][1]),
		})
	}
	return results, nil
}

// A virtioVM is a QEMU with its own file server, that runs testdata/share.
type virtioVM struct {
	cmd   *exec.Cmd
	dir   string
	in    io.Writer
	lines *bufio.Scanner
}

func newVirtioVM(ctx context.Context, s setup) (_ *virtioVM, err error) {
	v := &virtioVM{}
	if v.dir, err = os.MkdirTemp("", "byre-bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			v.close()
		}
	}()
	share, initrd := filepath.Join(v.dir, "share"), filepath.Join(v.dir, "initrd")
	if err := errors.Join(os.Mkdir(share, 0o755), virtioInitrd(ctx, s, initrd)); err != nil {
		return nil, err
	}
	kernel := filepath.Join(s.boot, "vmlinux")
	if _, err := os.Stat(kernel); err != nil {
		kernel = filepath.Join(s.boot, "kernel")
	}
	v.cmd = exec.CommandContext(ctx, "qemu-system-x86_64",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", "q35", "-bios", "qboot.rom", "-accel", accel(), "-m", "1024", "-smp", "2",
		"-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 panic=-1 quiet rdinit=/share-init",
		"-fsdev", "local,id=f,security_model=none,path="+share, "-device", "virtio-9p-pci,fsdev=f,mount_tag=share",
		"-serial", "stdio")
	out, err := v.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if v.in, err = v.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	v.lines = bufio.NewScanner(out)
	if err := v.cmd.Start(); err != nil {
		return nil, err
	}
	_, err = v.until("ready")
	return v, err
}

// virtioInitrd makes an initrd of that of the boot files, the program, and the
// module that those lack, from the kernel's package.
func virtioInitrd(ctx context.Context, s setup, file string) error {
	program := file + ".init"
	if err := buildShare(ctx, program); err != nil {
		return err
	}
	packages, err := filepath.Glob(filepath.Join(os.Getenv("BYRE_TEST_KERNEL"), "linux-image-*.deb"))
	if err != nil || len(packages) == 0 {
		return fmt.Errorf("BYRE_TEST_KERNEL has no package of a kernel: run make bench")
	}
	module, err := exec.CommandContext(ctx, "sh", "-c", `dpkg-deb --fsys-tarfile "$1" | tar -xO --wildcards '*/net/9p/9pnet_virtio.ko'`, "sh", packages[0]).Output()
	if err != nil {
		return fmt.Errorf("taking a module out of %s: %w", packages[0], err)
	}
	base, err := os.ReadFile(filepath.Join(s.boot, "initrd.img"))
	if err != nil {
		return err
	}
	code, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	// Archives that follow each other are unpacked in turn.
	b := bytes.NewBuffer(append(base, make([]byte, (4-len(base)%4)%4)...))
	w := cpio.NewWriter(b)
	for _, f := range []struct {
		name string
		data []byte
	}{{"share-init", code}, {"lib/modules/9pnet_virtio.ko", module}} {
		if err := w.WriteHeader(&cpio.Header{Name: f.name, Mode: cpio.TypeReg | 0o755, Size: int64(len(f.data))}); err != nil {
			return err
		}
		if _, err := w.Write(f.data); err != nil {
			return err
		}
	}
	return errors.Join(w.Close(), os.WriteFile(file, b.Bytes(), 0o600))
}

// run measures once and returns the times, in seconds.
func (v *virtioVM) run() ([]float64, error) {
	if _, err := fmt.Fprintln(v.in, metaFiles); err != nil {
		return nil, err
	}
	return v.until("done")
}

// until reads the console up to a line, and returns the times in it.
func (v *virtioVM) until(last string) (took []float64, err error) {
	limit := time.AfterFunc(2*time.Minute, func() { v.cmd.Process.Kill() })
	defer limit.Stop()
	var seen []string
	for v.lines.Scan() {
		line := strings.TrimSpace(v.lines.Text())
		if line == last {
			return took, nil
		}
		if text, ok := strings.CutPrefix(line, "took "); ok {
			s, err := strconv.ParseFloat(text, 64)
			if err != nil {
				return nil, err
			}
			took = append(took, s)
		}
		if strings.HasPrefix(line, "error:") {
			return nil, errors.New(line)
		}
		seen = append(seen, line)
	}
	return nil, errors.New("the console ended:\n" + strings.Join(seen, "\n"))
}

func (v *virtioVM) close() {
	if v.cmd != nil && v.cmd.Process != nil {
		v.cmd.Process.Kill()
		v.cmd.Wait()
	}
	os.RemoveAll(v.dir)
}
