package bootfiles

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A staging is the hidden folder beside the one that is made. Its name starts
// with the target's, and it is locked while its maker lives: what a killed
// process has left is found by the next one and removed.
type staging struct {
	target  string
	dir     string
	lock    *os.File // nil where folders cannot be locked
	parents []string // those that were made, outermost first
	done    bool
}

func stagingPrefix(target string) string { return "." + filepath.Base(target) + ".new-" }

// newStaging makes the hidden folder. Another Build may take it for a stale one
// before it is locked, and remove it: then it is made again.
func newStaging(target string) (*staging, error) {
	target, err := filepath.Abs(target)
	if err != nil {
		return nil, err
	}
	if real, err := filepath.EvalSymlinks(target); err == nil {
		target = real
	}
	s := &staging{target: target}
	if err := s.open(); err != nil {
		s.discard()
		return nil, err
	}
	return s, nil
}

func (s *staging) open() error {
	if err := s.makeParents(filepath.Dir(s.target)); err != nil {
		return err
	}
	if err := removeStale(s.target); err != nil {
		return err
	}
	for {
		var err error
		if s.dir, err = os.MkdirTemp(filepath.Dir(s.target), stagingPrefix(s.target)); err != nil {
			return err
		}
		if s.lock, err = lockDir(s.dir); err == nil {
			return os.Chmod(s.dir, 0o755)
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errLocked) {
			return err
		}
	}
}

// makeParents is os.MkdirAll, and remembers what it made.
func (s *staging) makeParents(dir string) error {
	err := os.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrNotExist) {
		if err := s.makeParents(filepath.Dir(dir)); err != nil {
			return err
		}
		err = os.Mkdir(dir, 0o755)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err == nil {
		s.parents = append(s.parents, dir)
	}
	return err
}

// removeStale removes the staging folders that no living process has locked.
func removeStale(target string) error {
	entries, err := os.ReadDir(filepath.Dir(target))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), stagingPrefix(target)) {
			continue
		}
		dir := filepath.Join(filepath.Dir(target), e.Name())
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
	if err = write(w); err == nil {
		err = errors.Join(f.Chmod(0o644), f.Sync()) // whatever the umask is
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

// commit puts the folder in the target's place.
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
	s.done = true
	return syncDir(filepath.Dir(s.target))
}

// discard removes the staging folder, or, after commit, what was in the
// target's place before, and lets go of the lock.
func (s *staging) discard() {
	if s.dir != "" {
		_ = os.RemoveAll(s.dir) // what stays is removed by the next Build
	}
	if s.lock != nil {
		s.lock.Close()
	}
	for _, dir := range slices.Backward(s.parents) {
		if s.done || os.Remove(dir) != nil {
			break
		}
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
