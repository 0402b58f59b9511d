//go:build linux

package modules

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrNotFound means that the image has no such module, and the kernel neither.
var ErrNotFound = errors.New("no such module")

// errMachine means that a module is for another processor, or another kind of
// machine.
var errMachine = fmt.Errorf("%w for this machine", ErrNotFound)

// A Loader inserts modules. Its methods are safe for concurrent use; two
// callers that need one module wait for each other.
type Loader struct {
	index *Index

	// insert puts the file at path into the kernel, with parameters.
	insert func(path, args string) error

	mu     sync.Mutex
	states map[string]*state
	flags  func() map[string]bool
	kind   func() string // of this machine
}

// state is one module's: done is closed when err is final.
type state struct {
	done chan struct{}
	err  error
}

// Open returns a loader for the index at path; see [ReadIndex].
func Open(path string) (*Loader, error) {
	ix, err := ReadIndex(path)
	if err != nil {
		return nil, err
	}
	return NewLoader(ix), nil
}

// NewLoader returns a loader that has inserted nothing yet.
func NewLoader(ix *Index) *Loader {
	return &Loader{
		index:  ix,
		insert: finit,
		states: make(map[string]*state),
		flags:  sync.OnceValue(func() map[string]bool { return cpuFlags("/proc/cpuinfo") }),
		kind:   sync.OnceValue(func() string { return machineKind("/sys") }),
	}
}

// Index returns the loader's index.
func (l *Loader) Index() *Index { return l.index }

// Known marks what the file at path, in the format of /proc/modules, lists as
// inserted. A loader that does not know still gets it right, at the price of
// reading the modules.
func (l *Loader) Known(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := bufio.NewScanner(f)
	for s.Scan() {
		// name size users dependants state address
		if w := strings.Fields(s.Text()); len(w) > 4 && w[4] == "Live" {
			st := &state{done: make(chan struct{})}
			close(st.done)
			l.states[w[0]] = st
		}
	}
	return s.Err()
}

// Insert inserts the named modules, with what they need, in order. A module
// that is in, or built in, is no error; one that neither the image nor the
// kernel has is ErrNotFound, unless the image has no modules at all: then the
// kernel is taken to have everything. It goes on past a failure and joins the
// errors. A failed insertion is tried again by the next call.
func (l *Loader) Insert(names ...string) error {
	var errs []error
	for _, n := range names {
		if err := l.one(n); err != nil {
			errs = append(errs, fmt.Errorf("inserting module %s: %w", n, err))
		}
	}
	return errors.Join(errs...)
}

// InsertAll inserts the modules of a list, of which those are left out that
// this machine has no use for.
func (l *Loader) InsertAll(names []string) error {
	var errs []error
	for _, n := range names {
		if err := l.Insert(n); err != nil && !errors.Is(err, errMachine) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Request inserts what the kernel asks for. Of several modules those are left
// out that this machine has no use for. No match is ErrNotFound.
func (l *Loader) Request(request string) error {
	names := slices.DeleteFunc(l.index.Lookup(request), func(n string) bool {
		m := l.index.modules[n]
		return m != nil && !l.suits(m)
	})
	if len(names) == 0 {
		return fmt.Errorf("%w: %q", ErrNotFound, request)
	}
	return l.Insert(names...)
}

// suits tells whether a module is for this machine.
func (l *Loader) suits(m *module) bool {
	return (m.cpu == "" || l.flags()[m.cpu]) && (m.on == "" || m.on == l.kind())
}

func (l *Loader) one(name string) error {
	m := l.index.modules[name]
	if m == nil {
		if l.index.builtin[name] || len(l.index.modules) == 0 {
			return nil
		}
		return ErrNotFound
	}
	if !l.suits(m) {
		return errMachine
	}
	l.mu.Lock()
	st := l.states[name]
	if st != nil {
		l.mu.Unlock()
		<-st.done
		return st.err
	}
	st = &state{done: make(chan struct{})}
	l.states[name] = st
	l.mu.Unlock()

	st.err = l.withNeeds(m)
	if st.err != nil {
		l.mu.Lock()
		delete(l.states, name)
		l.mu.Unlock()
	}
	close(st.done)
	return st.err
}

func (l *Loader) withNeeds(m *module) error {
	for _, n := range m.soft {
		_ = l.one(n) // it is the meaning of soft that a failure does not matter
	}
	for _, n := range m.deps {
		if err := l.one(n); err != nil {
			return fmt.Errorf("which needs %s: %w", n, err)
		}
	}
	return l.insert(m.path, m.args)
}

func finit(path, args string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	for {
		switch err := unix.FinitModule(fd, args, 0); err {
		case nil, unix.EEXIST:
			return nil
		case unix.EINTR:
		default:
			return &os.PathError{Op: "finit_module", Path: path, Err: err}
		}
	}
}

func cpuFlags(path string) map[string]bool {
	flags := make(map[string]bool)
	f, err := os.Open(path)
	if err != nil {
		return flags
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<16)
	for s.Scan() {
		// "flags" on x86, "Features" on arm64; the first processor's count.
		if k, v, ok := strings.Cut(s.Text(), ":"); ok {
			if k = strings.TrimSpace(k); k == "flags" || k == "Features" {
				for _, w := range strings.Fields(v) {
					flags[w] = true
				}
				return flags
			}
		}
	}
	return flags
}
