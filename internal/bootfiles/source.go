package bootfiles

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// A source is where a kernel and its modules come from.
type source interface {
	// name is what errors call it.
	name() string
	// each calls visit for the kernel image, with the path "vmlinuz", and for
	// every file in the modules' folder, with its path there; each may be called
	// again. A file is not read unless visit does, and only while it runs.
	each(ctx context.Context, visit func(path string, size int64, r io.Reader) error) error
	// modular tells whether there are modules.
	modular() bool
	// inputs are the digests of what has been read.
	inputs(*kernel) map[string]File
}

const imageName = "vmlinuz"

// A folder is a kernel file and the folder of its modules, if it has one.
type folder struct{ kernel, modules string }

func (f *folder) name() string { return f.kernel }

func (f *folder) modular() bool { return f.modules != "" }

func (f *folder) each(ctx context.Context, visit func(string, int64, io.Reader) error) error {
	open := func(path, name string) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		fi, err := os.Stat(path)
		if err != nil {
			return err
		}
		if !fi.Mode().IsRegular() {
			return &fs.PathError{Op: "read", Path: path, Err: errors.New("not a regular file")}
		}
		file := &lazyFile{ctx: ctx, path: path}
		defer file.close()
		return wrap(path, visit(name, fi.Size(), file))
	}
	if err := open(f.kernel, imageName); err != nil || f.modules == "" {
		return err
	}
	root, err := filepath.EvalSymlinks(f.modules)
	if err != nil {
		return fmt.Errorf("modules in %s: %w", f.modules, err)
	}
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		return open(path, filepath.ToSlash(rel))
	})
}

func (f *folder) inputs(k *kernel) map[string]File {
	in := map[string]File{"kernel": fileOf(k.image)}
	if len(k.modules) > 0 {
		in["modules"] = k.modulesDigest()
	}
	return in
}

// A lazyFile is opened by its first Read.
type lazyFile struct {
	ctx  context.Context
	path string
	f    *os.File
}

func (l *lazyFile) Read(b []byte) (int, error) {
	if l.ctx.Err() != nil {
		return 0, context.Cause(l.ctx)
	}
	if l.f == nil {
		f, err := os.Open(l.path)
		if err != nil {
			return 0, err
		}
		l.f = f
	}
	return l.f.Read(b)
}

func (l *lazyFile) close() {
	if l.f != nil {
		l.f.Close()
	}
}
