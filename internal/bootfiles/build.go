package bootfiles

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
)

// Input says what a folder is made of.
type Input struct {
	// KernelPackage is a Debian kernel package (a .deb with boot/vmlinuz-* and
	// lib/modules). Either it or Kernel is given.
	KernelPackage string
	// Kernel is a bzImage, as distributions name it vmlinuz.
	Kernel string
	// Modules is the folder of Kernel's modules, the one that is called after
	// the kernel's release. Empty: the kernel has all that it needs built in.
	Modules string

	// Agent is the guest agent and Runtime the OCI runtime, both of them static
	// programs for x86-64.
	Agent, Runtime string

	// InitrdOnly leaves rootfs.vhd and modules.img out: for hosts that boot no
	// initrd beside a disk, as the Host Compute Service by the documents that
	// package uvm writes, but prefer the disk where there is one.
	InitrdOnly bool

	// Progress, when not nil, is called from Build's goroutine as the work goes
	// on: the stage, and how many bytes of how many are done (total 0: not
	// known).
	Progress func(stage string, done, total int64)
}

// Build makes the folder dir from in and returns what is in it. The work is
// done in a hidden folder beside dir, which takes dir's place when all of it is
// written and synced: on an error, and when ctx ends, dir is as it was. An
// existing dir is replaced, if it holds nothing but boot files; VMs that have
// been started from it keep the old files. Parent folders are made where they are
// missing.
func Build(ctx context.Context, dir string, in Input) (*Manifest, error) {
	m, err := build(ctx, dir, in)
	if err != nil {
		return nil, fmt.Errorf("making boot files in %s: %w", dir, err)
	}
	return m, nil
}

func build(ctx context.Context, dir string, in Input) (*Manifest, error) {
	src, err := in.source()
	if err != nil {
		return nil, err
	}
	if err := replaceable(dir); err != nil {
		return nil, err
	}
	agent, err := readStatic("agent", in.Agent)
	if err != nil {
		return nil, err
	}
	runtime, err := readStatic("OCI runtime", in.Runtime)
	if err != nil {
		return nil, err
	}
	s, err := newStaging(dir)
	if err != nil {
		return nil, err
	}
	defer s.discard()

	k, err := loadKernel(ctx, src, wanted)
	if err != nil {
		return nil, err
	}
	m := &Manifest{Format: manifestFormat, Kernel: k.release, Places: placesOf(agent), Files: map[string]File{}, Inputs: k.inputs, Missing: k.missing, Notes: k.notes}
	m.Inputs["agent"], m.Inputs["runtime"] = fileOf(agent), fileOf(runtime)
	if err := writeFiles(ctx, s, m, k, programs{agent, runtime}, in); err != nil {
		return nil, err
	}
	if err := s.commit(ctx); err != nil {
		return nil, err
	}
	return m, nil
}

// programs are the two files of ours in the guest.
type programs struct{ agent, runtime []byte }

// writeFiles fills the staging folder, the manifest last.
func writeFiles(ctx context.Context, s *staging, m *Manifest, k *kernel, p programs, in Input) error {
	ix := newIndex(k)
	if err := ix.check(); err != nil {
		return err
	}
	all := guestTree(k, ix, p)
	files := []struct {
		name  string
		write func(w *output) error
	}{
		{"kernel", bytesWriter(k.image)},
		{"vmlinux", func(w *output) error { return writeVmlinux(w, k.image) }},
		{"initrd.img", func(w *output) error { return writeCPIO(w, all) }},
		{"rootfs.vhd", func(w *output) error { return writeVHD(w, all) }},
		{"modules.img", func(w *output) error { return writeCPIO(w, modulesTree(k, ix.forRoot(), p)) }},
	}
	for _, f := range files {
		if f.name == "modules.img" && len(k.modules) == 0 {
			continue // the kernel mounts its root by itself
		}
		if in.InitrdOnly && (f.name == "modules.img" || f.name == "rootfs.vhd") {
			continue
		}
		in.progress()("writing "+f.name, 0, 0)
		file, err := s.write(ctx, f.name, f.write)
		if u := (*unusableError)(nil); errors.As(err, &u) {
			m.Notes = append(m.Notes, fmt.Sprintf("no %s: %v", f.name, u))
			continue
		}
		if err != nil {
			return fmt.Errorf("writing %s: %w", f.name, err)
		}
		m.Files[f.name] = file
	}
	_, err := s.write(ctx, manifestName, func(w *output) error { return m.encode(w) })
	if err != nil {
		return fmt.Errorf("writing %s: %w", manifestName, err)
	}
	return nil
}

func bytesWriter(b []byte) func(*output) error {
	return func(w *output) error {
		_, err := bytes.NewReader(b).WriteTo(w)
		return err
	}
}

func (in *Input) progress() func(string, int64, int64) {
	if in.Progress != nil {
		return in.Progress
	}
	return func(string, int64, int64) {}
}

func (in *Input) source() (source, error) {
	switch {
	case in.KernelPackage != "" && (in.Kernel != "" || in.Modules != ""):
		return nil, errors.New("a kernel package and a kernel file are given: give one of them")
	case in.KernelPackage != "":
		return &debPackage{path: in.KernelPackage, progress: in.progress()}, nil
	case in.Kernel != "":
		return &folder{kernel: in.Kernel, modules: in.Modules}, nil
	case in.Modules != "":
		return nil, errors.New("a folder of modules is given without a kernel")
	}
	return nil, errors.New("no kernel is given: neither a kernel package nor a kernel file")
}

// readFile reads a regular file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if fi.Size() > limit {
		return nil, fmt.Errorf("%s has %d bytes, more than the limit of %d", path, fi.Size(), limit)
	}
	return os.ReadFile(path)
}
