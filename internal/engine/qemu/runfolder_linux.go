package qemu

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/hcs"
)

// A runFolder holds the claims of all systems of a user.
type runFolder struct {
	path string
	log  *slog.Logger
}

// defaultRunFolder is where the claims of this user are.
func defaultRunFolder() string {
	uid := os.Geteuid()
	if uid == 0 {
		return "/run/byre"
	}
	if d := os.Getenv("XDG_RUNTIME_DIR"); d != "" {
		return filepath.Join(d, "byre")
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("byre-%d", uid))
}

// claim makes the folder of a system, after it has removed what systems of
// dead owners left. It fails with [hcs.ErrAlreadyExists] if the system has an
// owner that lives.
func (r *runFolder) claim(id string) (*claim, error) {
	for {
		c, stale, err := r.tryClaim(id)
		r.clean(stale)
		if err != nil {
			return nil, err
		}
		if c != nil {
			return c, nil
		}
	}
}

// tryClaim returns nothing if a dead owner's claim of the same id must be
// removed first.
func (r *runFolder) tryClaim(id string) (made *claim, stale []*claim, err error) {
	unlock, err := r.open()
	if err != nil {
		return nil, nil, err
	}
	defer unlock()

	stale, uids, err := r.scan()
	if err != nil {
		return nil, stale, err
	}
	dir := filepath.Join(r.path, folderName(id))
	if _, err := os.Lstat(dir); err == nil {
		for _, c := range stale {
			if c.dir == dir {
				return nil, stale, nil
			}
		}
		return nil, stale, hcs.ErrAlreadyExists
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, stale, err
	}
	c := &claim{dir: dir, rec: record{ID: id, Owner: os.Getpid()}}
	if c.lock, err = tryLock(filepath.Join(dir, lockFile), os.O_CREATE); err != nil {
		return nil, stale, errors.Join(err, os.RemoveAll(dir))
	}
	if err := c.note(func(rec *record) { rec.UID = freeUID(uids) }); err != nil {
		return nil, stale, errors.Join(err, c.release())
	}
	return c, stale, nil
}

// open makes the run folder if it must and takes its lock, under which claims
// are made and looked at.
func (r *runFolder) open() (unlock func(), err error) {
	if err := os.MkdirAll(r.path, 0o700); err != nil {
		return nil, fmt.Errorf("making the run folder: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(r.path, &st); err != nil {
		return nil, fmt.Errorf("looking at the run folder: %w", err)
	}
	if int(st.Uid) != os.Geteuid() || st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Mode&0o022 != 0 {
		return nil, fmt.Errorf("run folder %s is not a folder that only this user can write", r.path)
	}
	f, err := os.OpenFile(filepath.Join(r.path, "."+lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock of the run folder: %w", err)
	}
	if err := flock(f, unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("locking the run folder: %w", err)
	}
	return func() { f.Close() }, nil
}

// scan returns the claims whose owner is dead, now locked by us, and the user
// ids of the others.
func (r *runFolder) scan() (stale []*claim, uids []uint32, err error) {
	all, err := os.ReadDir(r.path)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range all {
		if strings.HasPrefix(e.Name(), ".") || !e.IsDir() {
			continue
		}
		dir := filepath.Join(r.path, e.Name())
		lock, err := tryLock(filepath.Join(dir, lockFile), os.O_CREATE)
		if err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
			r.log.Warn("claim of a system not readable", "path", dir, "err", err)
			continue
		}
		rec, err := readRecord(dir)
		if err != nil {
			r.log.Warn("record of a system not readable", "path", dir, "err", err)
		}
		if lock != nil {
			stale = append(stale, &claim{dir: dir, lock: lock, rec: rec})
		} else if rec.UID != 0 {
			uids = append(uids, rec.UID)
		}
	}
	return stale, uids, nil
}

func readRecord(dir string) (rec record, err error) {
	b, err := os.ReadFile(filepath.Join(dir, recordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return rec, nil // its owner died before it made anything
	}
	if err == nil {
		err = json.Unmarshal(b, &rec)
	}
	return rec, err
}

// clean removes what dead owners left.
func (r *runFolder) clean(stale []*claim) {
	for _, c := range stale {
		err := c.release()
		if err != nil {
			c.lock.Close() // the next claim tries again
			r.log.Warn("leftovers of a killed owner not removed", "uvm", c.rec.ID, "owner", c.rec.Owner, "err", err)
			continue
		}
		r.log.Info("leftovers of a killed owner removed", "uvm", c.rec.ID, "owner", c.rec.Owner)
	}
}

// tryLock opens a file and takes its lock; nil, EWOULDBLOCK means that
// somebody has it.
func tryLock(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|flags, 0o600)
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

var plainID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.@:-]{0,99}$`)

// folderName returns the name of a system's folder: its id, if that is
// harmless.
func folderName(id string) string {
	if plainID.MatchString(id) {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return "_" + hex.EncodeToString(sum[:16])
}
