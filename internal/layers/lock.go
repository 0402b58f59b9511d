package layers

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// lockPoll is how often a lock that another process holds is tried again. The
// kernel has no way to wait for a file lock that a context can end, and the
// wait is for a download or a conversion.
const lockPoll = 20 * time.Millisecond

// A keyLock lets one goroutine of one process make the disk of a key.
type keyLock struct {
	c   *Cache
	key string
	f   *os.File
}

// keyLocks has the keys that this process is making or waits to make; waiters
// wait for the channel, so that only one of a process asks the kernel.
type keyLocks struct {
	mu   sync.Mutex
	held map[string]chan struct{} // closed when released
}

// take reserves a key within the process, or returns what to wait for.
func (l *keyLocks) take(key string) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ch, ok := l.held[key]; ok {
		return ch
	}
	if l.held == nil {
		l.held = map[string]chan struct{}{}
	}
	l.held[key] = make(chan struct{})
	return nil
}

func (l *keyLocks) drop(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.held[key])
	delete(l.held, key)
}

// lock waits until the key is this caller's alone.
func (c *Cache) lock(ctx context.Context, key string) (*keyLock, error) {
	for {
		ch := c.locks.take(key)
		if ch == nil {
			break
		}
		select {
		case <-ch:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	for {
		l, err := c.tryFile(key)
		if err == nil && l != nil {
			return l, nil
		}
		if err == nil {
			select {
			case <-time.After(lockPoll):
				continue
			case <-ctx.Done():
				err = context.Cause(ctx)
			}
		}
		c.locks.drop(key)
		return nil, err
	}
}

// tryLock returns nil if somebody has the key.
func (c *Cache) tryLock(key string) (*keyLock, error) {
	if c.locks.take(key) != nil {
		return nil, nil
	}
	l, err := c.tryFile(key)
	if l == nil {
		c.locks.drop(key)
	}
	return l, err
}

// tryFile takes the lock among processes, or returns nil if another has it.
func (c *Cache) tryFile(key string) (*keyLock, error) {
	f, err := os.OpenFile(c.lockPath(key), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, c.noSpace(err)
	}
	ok, err := tryFlock(f, true)
	// The holder removes the file before it lets go: a lock on a file that is
	// no longer there is worth nothing.
	if err != nil || !ok || !sameFile(f, c.lockPath(key)) {
		f.Close()
		return nil, err
	}
	return &keyLock{c, key, f}, nil
}

// release removes what the holder left in tmp, and the lock.
func (l *keyLock) release() error {
	err := l.sweep()
	err = errors.Join(err, removeHeld(l.f))
	l.c.locks.drop(l.key)
	return err
}

// sweep removes the temporary files of the key, whoever left them.
func (l *keyLock) sweep() error {
	entries, err := os.ReadDir(filepath.Join(l.c.dir, "tmp"))
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), l.key+".") {
			err = errors.Join(err, removeIfThere(filepath.Join(l.c.dir, "tmp", e.Name())))
		}
	}
	return err
}

// temp makes a temporary file, which release removes if it is still there.
func (l *keyLock) temp(kind string) (*os.File, error) {
	f, err := os.CreateTemp(filepath.Join(l.c.dir, "tmp"), l.key+"."+kind+"-*")
	return f, l.c.noSpace(err)
}

// writeFile makes a file of the cache appear with all of its content.
func (l *keyLock) writeFile(path string, content []byte) error {
	f, err := l.temp("new")
	if err != nil {
		return err
	}
	if _, err = f.Write(content); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return l.c.noSpace(err)
	}
	return l.publish(f.Name(), path)
}

// publish moves a finished file to its place.
func (l *keyLock) publish(temp, path string) error {
	if err := os.Rename(temp, path); err != nil {
		return l.c.noSpace(err)
	}
	return syncDir(filepath.Dir(path))
}

// sameFile reports whether path still is the open file.
func sameFile(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}
