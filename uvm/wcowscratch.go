package uvm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// utilityVMFolder returns the first UtilityVM folder of layers.
func utilityVMFolder(layers []string) (string, error) {
	for _, l := range layers {
		p := filepath.Join(l, utilityVM)
		_, err := os.Stat(p)
		if err == nil {
			return p, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("locating the utility VM folder: %w", err)
		}
	}
	return "", &sentinel{"utility VM folder could not be found in layers", fs.ErrNotExist}
}

// makeScratch returns the disk that a Windows guest writes to, in folder. If
// it is not there it is a copy of the template in image, and the VM is given
// access to it. undo removes what was made.
func (vm *UtilityVM) makeScratch(ctx context.Context, folder, image string) (path string, undo func() error, err error) {
	path = filepath.Join(folder, "sandbox.vhdx")
	var made []string
	remove := func() error {
		var errs []error
		for i := len(made) - 1; i >= 0; i-- {
			errs = append(errs, os.Remove(made[i]))
		}
		return errors.Join(errs...)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("making the scratch of the utility VM: %w", err), remove())
		}
	}()
	for p := folder; absent(p) && p != filepath.Dir(p); p = filepath.Dir(p) {
		made = append([]string{p}, made...)
	}
	for i, p := range made {
		if err := os.Mkdir(p, 0o777); err != nil {
			made = made[:i]
			return "", nil, err
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return path, remove, err
	}
	if err := copyFile(ctx, filepath.Join(image, "SystemTemplate.vhdx"), path); err != nil {
		return "", nil, err
	}
	made = append(made, path)
	if err := vm.grant(ctx, path, VMAccessTypeIndividual); err != nil {
		return "", nil, err
	}
	return path, remove, nil
}

// copyFile makes a copy that is whole or not there, even if the host stops
// meanwhile.
func copyFile(ctx context.Context, from, to string) (err error) {
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.CreateTemp(filepath.Dir(to), filepath.Base(to)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			w.Close()
			err = errors.Join(err, os.Remove(w.Name()))
		}
	}()
	if _, err := io.Copy(w, contextReader{ctx, r}); err != nil {
		return err
	}
	if err := errors.Join(w.Sync(), w.Close()); err != nil {
		return err
	}
	return os.Rename(w.Name(), to)
}

// A contextReader fails when its context has ended.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r contextReader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(b)
}
