package hns

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// What is in the folder of a network:
//
//	lock       held while the rest is changed
//	state      the endpoints and namespaces, replaced as a whole
//	sessions/  a file for each session, locked as long as that lives
//	nics/      a file for each endpoint with a NIC, locked as long as that is open
//	busy/      a file for each endpoint that is being made or removed, locked
//	spaces/    network namespaces of the kernel, of the endpoints that need one
//	cni/       what plugins have made
const (
	lockFile    = "lock"
	stateFile   = "state"
	sessionsDir = "sessions"
	nicsDir     = "nics"
	busyDir     = "busy"
	spacesDir   = "spaces"
)

// A state is all that a network has, the oldest first.
type state struct {
	Endpoints  []*ownedEndpoint
	Namespaces []*ownedNamespace
	Bridges    []*ownBridge `json:",omitempty"`

	// cut are the taps of endpoints that have been removed: should they have
	// NICs, those are not to speak with addresses that others get.
	cut []string
}

// Session is the session that something belongs to, or "".
type (
	ownedEndpoint struct {
		Session  string `json:",omitempty"`
		Endpoint *HNSEndpoint
		// NetNS is the kernel's network namespace that the endpoint's network
		// is in, if that matters.
		NetNS string `json:",omitempty"`
		// Unfinished is one that nobody sees: it is being made, or was not
		// finished, or has lost its owner.
		Unfinished bool        `json:",omitempty"`
		CNI        *cniNetwork `json:",omitempty"`
	}
	ownedNamespace struct {
		Session   string `json:",omitempty"`
		Namespace *HostComputeNamespace
	}
)

// change changes the state, all of it or, when do fails, nothing.
func (l *local) change(ctx context.Context, do func(*state) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	unlock, err := l.lock()
	if err != nil {
		return err
	}
	defer unlock()
	s, before, err := l.read()
	if err != nil {
		return err
	}
	stale, err := l.clean(s)
	if err != nil {
		return err
	}
	if err := do(s); err != nil {
		return errors.Join(err, l.settleAgain())
	}
	s.settle()
	if err := l.write(s, before); err != nil {
		return err
	}
	for _, tap := range s.cut {
		cutOff(tap)
	}
	// Last: as long as a file is there, what it stands for is looked at again.
	for _, f := range stale {
		err = errors.Join(err, os.Remove(f.Name()), f.Close())
	}
	return err
}

// settleAgain settles what a change that failed has left.
func (l *local) settleAgain() error {
	s, before, err := l.read()
	if err != nil {
		return err
	}
	s.settle()
	return l.write(s, before)
}

// lock makes the folder if it must and takes its lock.
func (l *local) lock() (unlock func(), err error) {
	for _, d := range []string{"", sessionsDir, nicsDir, busyDir, spacesDir} {
		if err := os.MkdirAll(filepath.Join(l.dir, d), 0o700); err != nil {
			return nil, fmt.Errorf("making the folder of networks: %w", err)
		}
	}
	var st unix.Stat_t
	if err := unix.Lstat(l.dir, &st); err != nil {
		return nil, fmt.Errorf("looking at the folder of networks: %w", err)
	}
	if int(st.Uid) != os.Geteuid() || st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Mode&0o022 != 0 {
		return nil, fmt.Errorf("%s is not a folder that only this user can write", l.dir)
	}
	f, err := os.OpenFile(filepath.Join(l.dir, lockFile), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f, unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("locking the folder of networks: %w", err)
	}
	return func() { f.Close() }, nil
}

// read returns the state and its text.
func (l *local) read() (*state, []byte, error) {
	s := new(state)
	b, err := os.ReadFile(filepath.Join(l.dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil, nil
	}
	if err == nil {
		err = json.Unmarshal(b, s)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading the networks: %w", err)
	}
	return s, b, nil
}

func (l *local) write(s *state, before []byte) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if slices.Equal(b, before) {
		return nil
	}
	tmp := filepath.Join(l.dir, stateFile+".new")
	err = os.WriteFile(tmp, b, 0o600)
	if err == nil {
		err = os.Rename(tmp, filepath.Join(l.dir, stateFile))
	}
	if err != nil {
		return fmt.Errorf("writing the networks down: %w", err)
	}
	return nil
}

// clean removes what the sessions of dead processes left from the state, and
// returns their files, locked.
func (l *local) clean(s *state) (stale []*os.File, err error) {
	dir := filepath.Join(l.dir, sessionsDir)
	all, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range all {
		f, err := tryLock(filepath.Join(dir, e.Name()))
		if err != nil { // it lives
			continue
		}
		s.removeSession(e.Name())
		stale = append(stale, f)
	}
	err = l.deadLocks(busyDir, func(string) {})
	return stale, errors.Join(err, l.deadLocks(nicsDir, func(id string) {
		// The tap goes with its process, or with QEMU shortly after; what
		// filters it does not.
		cutOff(tapName(id))
		if err := dropChain(tapName(id)); err != nil && os.Geteuid() == 0 {
			slog.Warn("rules of a NIC that has gone were not removed", "endpoint", id, "err", err)
		}
	}))
}

// deadLocks removes the files in a folder whose process is dead.
func (l *local) deadLocks(folder string, gone func(id string)) error {
	dir := filepath.Join(l.dir, folder)
	all, err := os.ReadDir(dir)
	for _, e := range all {
		f, lerr := tryLock(filepath.Join(dir, e.Name()))
		if lerr != nil { // it lives
			continue
		}
		gone(e.Name())
		err = errors.Join(err, os.Remove(f.Name()), f.Close())
	}
	return err
}

func (s *state) removeSession(id string) {
	for _, n := range slices.Clone(s.Namespaces) {
		if n.Session == id {
			s.removeNamespace(n)
		}
	}
	for _, e := range slices.Clone(s.Endpoints) {
		switch {
		case e.Session != id:
		case e.CNI != nil: // that takes longer: see sweep
			s.leave(e)
			e.Unfinished = true
		default:
			s.removeEndpoint(e)
		}
	}
}

// tryLock opens a file, which it makes if it must, and takes its lock.
func tryLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
