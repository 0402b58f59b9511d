package bootfiles

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// A staging is the hidden folder beside the one that is made. Its name starts
// with the target's, and it is locked while its maker lives: what a killed
// process has left is found by the next one and removed.
type staging struct {
	target string
	dir    string
	lock   *os.File // nil where folders cannot be locked
}

func stagingPrefix(target string) string { return "." + filepath.Base(target) + ".new-" }

// newStaging makes the hidden folder. Another Build may take it for a stale one
// before it is locked, and remove it: then it is made again.
func newStaging(target string) (*staging, error) {
	target, err := filepath.Abs(target)
	if err != nil {
		return nil, err
	}
	if err := removeStale(target); err != nil {
		return nil, err
	}
	for {
		dir, err := os.MkdirTemp(filepath.Dir(target), stagingPrefix(target))
		if err != nil {
			return nil, err
		}
		s := &staging{target: target, dir: dir}
		if s.lock, err = lockDir(dir); err == nil {
			err = os.Chmod(dir, 0o755)
		}
		if err == nil {
			return s, nil
		}
		s.discard()
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errLocked) {
			return nil, err
		}
	}
}

// removeStale removes the staging folders that no living process has locked.
func removeStale(target string) error {
	stale, err := filepath.Glob(filepath.Join(filepath.Dir(target), stagingPrefix(target)+"*"))
	if err != nil {
		return nil //nolint:nilerr // a target whose name is a bad pattern: leave them
	}
	for _, dir := range stale {
		lock, err := lockDir(dir)
		if err != nil || lock == nil {
			continue // in use, or gone
		}
		err = os.RemoveAll(dir)
		lock.Close()
		if err != nil {
			return fmt.Errorf("removing what a killed process left: %w", err)
		}
	}
	return nil
}

// write makes one file of the folder.
func (s *staging) write(ctx context.Context, name string, write func(*output) error) (File, error) {
	f, err := os.OpenFile(filepath.Join(s.dir, name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return File{}, err
	}
	w := &output{ctx: ctx, File: f}
	err = write(w)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return File{}, errors.Join(err, os.Remove(f.Name()))
	}
	sum, err := digest(ctx, f.Name())
	if err != nil {
		return File{}, err
	}
	fi, err := os.Stat(f.Name())
	if err != nil {
		return File{}, err
	}
	return File{Size: fi.Size(), SHA256: sum}, nil
}

// commit puts the folder in the target's place. After it, discard removes what
// was there before.
func (s *staging) commit(ctx context.Context) error {
	if err := syncDir(s.dir); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := replaceable(s.target); err != nil {
		return err // changed meanwhile
	}
	err := os.Rename(s.dir, s.target) // works when there is nothing, or an empty folder
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		err = exchange(s.dir, s.target)
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(s.target))
}

// discard removes the staging folder and lets go of its lock. It may be called
// after commit.
func (s *staging) discard() {
	_ = os.RemoveAll(s.dir) // what stays is removed by the next Build
	if s.lock != nil {
		s.lock.Close()
	}
}

// An output is a file that is being written. Writes fail when the context has
// ended.
type output struct {
	ctx context.Context
	*os.File
}

func (w *output) Write(b []byte) (int, error) {
	if w.ctx.Err() != nil {
		return 0, context.Cause(w.ctx)
	}
	return w.File.Write(b)
}

// replaceable tells whether Build may put a folder in dir's place.
func replaceable(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !slices.Contains(fileNames, e.Name()) || !e.Type().IsRegular() {
			return fmt.Errorf("the folder exists and has a file that is none of ours: %s", e.Name())
		}
	}
	return nil
}
