package qemu

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/Microsoft/go-winio/pkg/guid"
	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/hns"
	"github.com/byrevm/byre/internal/engine/qemu/qmp"
	"github.com/byrevm/byre/internal/vsock/vhostuser"
)

const (
	// rollback is how long clean-up may take that no context limits.
	rollback = 30 * time.Second
	// farewell is how long a QEMU may take to close the disks that it writes.
	farewell = time.Second
)

// A system is one QEMU. The fields of the first group are set by launch, one
// after the other, before anybody else sees the system.
type system struct {
	m         *machine
	runtimeID guid.GUID
	log       *slog.Logger
	claim     *claim
	cgroups   *cgroups
	watcher   *watcher
	console   *console
	screen    net.Listener // nil without one; closed with QEMU
	vsock     *vhostuser.Device
	folders   folders
	proc      *process
	qmp       *qmp.Client
	network   hns.Network
	nics      nics
	pci       pcis

	shares struct { // of processors, as they are now
		sync.Mutex
		now shares
	}

	connected chan struct{} // closed once qmp is set, or never will be
	done      chan struct{} // closed once exit is set
	wg        sync.WaitGroup

	closeOnce sync.Once
	closeErr  error

	mu         sync.Mutex // held for moments only
	started    bool
	terminated bool
	closed     bool   // no more goroutines begin
	reason     string // of the SHUTDOWN event
	misused    string // how a device was, for which QEMU was killed
	exit       *hcs.Exit
	stages     []hcs.Stage
	slots      map[hcs.Path]*slot
	deleted    map[string]chan struct{} // devices that QEMU will report gone
	plugged    map[string]*plugged      // devices that a guest may eject by mistake
}

func newSystem(m *machine, log *slog.Logger) (*system, error) {
	id, err := guid.NewV4()
	if err != nil {
		return nil, err
	}
	s := &system{
		m: m, runtimeID: id, log: log.With("uvm", m.id), connected: make(chan struct{}), done: make(chan struct{}),
		slots: make(map[hcs.Path]*slot), deleted: make(map[string]chan struct{}),
		plugged: make(map[string]*plugged),
	}
	s.shares.now = m.shares
	return s, nil
}

func (s *system) ID() string            { return s.m.id }
func (s *system) RuntimeID() guid.GUID  { return s.runtimeID }
func (s *system) Done() <-chan struct{} { return s.done }

func (s *system) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.exit == nil {
		return nil
	}
	return s.exit
}

// Start implements [hcs.System].
func (s *system) Start(ctx context.Context) error {
	if err := s.start(ctx); err != nil {
		return &hcs.Error{Op: "start", System: s.m.id, Err: err}
	}
	s.log.InfoContext(ctx, "system started")
	return nil
}

func (s *system) start(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	again := s.started
	s.started = true
	s.mu.Unlock()
	switch {
	case s.Err() != nil:
		return hcs.ErrStopped
	case again:
		return fmt.Errorf("%w: started before", hcs.ErrInvalidState)
	}
	return s.explain(s.stage("guest-run", func() error {
		return s.qmp.Execute(ctx, "cont", nil, nil)
	}))
}

// Listen implements [hcs.System].
func (s *system) Listen(service hcs.ServiceID) (net.Listener, error) {
	port, err := s.port(service)
	if err == nil {
		var l net.Listener
		if l, err = s.vsock.Listen(port); err == nil {
			return l, nil
		}
		if errors.Is(err, unix.EADDRINUSE) {
			err = fmt.Errorf("%w: %w", hcs.ErrAlreadyExists, err)
		}
	}
	return nil, &hcs.Error{Op: "listen", System: s.m.id, Err: s.orStopped(err)}
}

// Dial implements [hcs.System].
func (s *system) Dial(ctx context.Context, service hcs.ServiceID) (net.Conn, error) {
	port, err := s.port(service)
	if err == nil {
		var c net.Conn
		if c, err = s.vsock.Dial(ctx, port); err == nil {
			return c, nil
		}
	}
	return nil, &hcs.Error{Op: "dial", System: s.m.id, Err: s.orStopped(err)}
}

func (s *system) port(service hcs.ServiceID) (uint32, error) {
	if s.Err() != nil {
		return 0, hcs.ErrStopped
	}
	port, ok := service.VsockPort()
	if !ok {
		return 0, fmt.Errorf("%w: service %s, which is not a vsock port", hcs.ErrNotSupported, service)
	}
	return port, nil
}

// orStopped tells an error that comes from the end of the system.
func (s *system) orStopped(err error) error {
	if err == nil || errors.Is(err, hcs.ErrStopped) || !s.ended(err) {
		return err
	}
	return fmt.Errorf("%w: %w: %w", hcs.ErrStopped, err, s.Err())
}

// Properties implements [hcs.System].
func (s *system) Properties(ctx context.Context, types ...hcsschema.PropertyType) (*hcsschema.Properties, error) {
	p, err := s.properties(types)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, &hcs.Error{Op: "properties", System: s.m.id, Err: err}
	}
	return p, nil
}

// Terminate implements [hcs.System].
func (s *system) Terminate(ctx context.Context) error {
	s.stop()
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return &hcs.Error{Op: "terminate", System: s.m.id, Err: context.Cause(ctx)}
	}
}

// stop ends QEMU. One that writes to disks is asked first, so that the tables
// of their images are whole.
func (s *system) stop() {
	s.mu.Lock()
	again := s.terminated
	s.terminated = true
	ask := s.writes()
	s.mu.Unlock()
	if again || s.proc == nil {
		return
	}
	if !ask {
		s.proc.kill()
		return
	}
	s.background(func() {
		ctx, cancel := context.WithTimeout(context.Background(), farewell)
		defer cancel()
		// Whatever the answer is: it ends now or is ended.
		_ = s.qmp.Execute(ctx, "quit", nil, nil)
		select {
		case <-s.proc.done:
		case <-ctx.Done():
			s.proc.kill()
		}
	})
}

// Close implements [hcs.System].
func (s *system) Close() error {
	s.closeOnce.Do(func() { s.closeErr = s.close() })
	return s.closeErr
}

func (s *system) close() error {
	s.stop()
	if s.proc != nil {
		<-s.done
	}
	if s.console != nil {
		s.console.close()
	}
	if s.vsock != nil {
		s.vsock.Close()
	}
	s.folders.close() // after the connections that a guest does not read
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.wg.Wait()
	s.nics.close()
	s.closeSockets()
	s.pci.close()
	var err error
	if s.claim != nil {
		if err = s.claim.release(); err != nil {
			err = fmt.Errorf("removing what system %s left: %w", s.m.id, err)
			if s.claim.lock != nil {
				s.claim.lock.Close() // the next Create tries again
			}
		}
	}
	if s.watcher != nil {
		s.watcher.stop()
	}
	return err
}

// Timeline implements [hcs.Timeliner].
func (s *system) Timeline() []hcs.Stage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]hcs.Stage(nil), s.stages...)
}

// background runs do in a goroutine that Close waits for. It reports false,
// and does nothing, if Close has come so far.
func (s *system) background(do func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.wg.Go(do)
	return true
}

// stage does one step and keeps account of it; its error names the step.
func (s *system) stage(name string, do func() error) error {
	at := time.Now()
	err := do()
	s.mu.Lock()
	s.stages = append(s.stages, hcs.Stage{Name: name, At: at, Took: time.Since(at)})
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("stage %s: %w", name, err)
	}
	return nil
}

// explain adds to the error of a step how QEMU ended, if that is why. The
// record of the console and of QEMU's own messages is in the [*hcs.Exit].
func (s *system) explain(err error) error {
	if err == nil || !s.ended(err) {
		return err
	}
	return fmt.Errorf("%w: %w", err, s.Err())
}

// ended reports whether err comes from the end of QEMU. If it does, the system
// has stopped when ended returns.
func (s *system) ended(err error) bool {
	if s.proc == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	select {
	case <-s.proc.done:
	case <-s.vsock.Done():
	default:
		if !errors.Is(err, qmp.ErrClosed) {
			return false
		}
	}
	// A connection of a QEMU that lives can break too; then nothing ends.
	limit := time.NewTimer(farewell)
	defer limit.Stop()
	select {
	case <-s.done:
		return true
	case <-limit.C:
		return false
	}
}
