package hns

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/Microsoft/go-winio/pkg/guid"
)

var host = sync.OnceValue(func() Network { return &local{dir: stateDir()} })

// stateDir is where the network of this user is written down: in a folder that
// a restart of the host empties.
func stateDir() string {
	uid := os.Geteuid()
	if uid == 0 {
		return "/run/byre/.network"
	}
	if d := os.Getenv("XDG_RUNTIME_DIR"); d != "" {
		return filepath.Join(d, "byre", ".network")
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("byre-%d", uid), ".network")
}

// A local is the network of this host, or a session in it. What it has is in
// a folder, which processes change one after the other; see [state].
type local struct {
	dir     string
	session string   // "" is none
	alive   *os.File // the session's lock

	mu sync.Mutex // one change of this process at a time
}

var (
	_ Network = (*local)(nil)
	_ Opener  = (*local)(nil)
)

func newSession() (Session, error) {
	s, err := openSession(stateDir())
	if err != nil {
		return nil, fmt.Errorf("hns: beginning a session: %w", err)
	}
	return s, nil
}

func openSession(dir string) (*local, error) {
	id, err := guid.NewV4()
	if err != nil {
		return nil, err
	}
	l := &local{dir: dir, session: id.String()}
	// Under the lock of the state: nobody takes a file that is not locked
	// yet for one that a dead process left.
	err = l.change(context.Background(), func(*state) error {
		if l.alive, err = tryLock(filepath.Join(dir, sessionsDir, l.session)); err != nil {
			return fmt.Errorf("locking it: %w", err)
		}
		return nil
	})
	if err != nil {
		if l.alive != nil {
			l.alive.Close()
		}
		return nil, err
	}
	l.sweepOthers()
	return l, nil
}

// Close implements [Session]. A second call does nothing.
func (l *local) Close() error {
	if l.alive == nil {
		return nil
	}
	err := l.change(context.Background(), func(s *state) error {
		s.removeSession(l.session)
		return nil
	})
	if err == nil {
		err = l.sweep(context.Background(), true)
	}
	if err != nil { // it can be tried again
		return fmt.Errorf("hns: ending a session: %w", err)
	}
	err = l.change(context.Background(), func(*state) error {
		return os.Remove(filepath.Join(l.dir, sessionsDir, l.session))
	})
	if err != nil {
		return fmt.Errorf("hns: ending a session: %w", err)
	}
	err = l.alive.Close()
	l.alive = nil
	return err
}
