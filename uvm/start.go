package uvm

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"syscall"
	"time"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/bridge"
	"github.com/byrevm/byre/schema1"
)

const (
	startTimeout   = 2 * time.Minute  // of a Start whose context has no deadline
	cleanupTimeout = 30 * time.Second // of stopping a VM, whatever became of the caller's context
	endPatience    = 2 * time.Second  // for the engine to notice the end of a VM whose connections broke
	entropyBytes   = 512
)

// Start boots the VM and returns when its agent answers. It may be called
// once: a second call is [hcs.ErrInvalidState], a call after the end of the
// VM [hcs.ErrStopped]. It takes at most two minutes, or as long as the
// deadline of ctx allows.
//
// The error of a start that failed is a [*StartError]. The VM has been
// stopped then; it must still be closed.
func (vm *UtilityVM) Start(ctx context.Context) error {
	if err := vm.begin(); err != nil {
		return err
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, startTimeout)
		defer cancel()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(vm.stopped, func() { cancel(context.Cause(vm.stopped)) })()

	b := &boot{vm: vm, stage: StageVMM}
	b.accept(ctx)
	err := b.run(ctx)
	if err == nil {
		return nil
	}
	err = b.cause(ctx, err)
	cancel(err)
	return b.failed(ctx, err)
}

// begin admits one Start.
func (vm *UtilityVM) begin() error {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	switch vm.state {
	case created:
		vm.state = started
		return nil
	case started:
		return &hcs.Error{Op: "start", System: vm.id, Err: hcs.ErrInvalidState}
	}
	return &hcs.Error{Op: "start", System: vm.id, Err: hcs.ErrStopped}
}

// A boot is one Start.
type boot struct {
	vm      *UtilityVM
	stage   string // under way, or failed
	running bool   // the engine has started the system
	record  record

	entropy, log, bridge chan arrival // nil where nothing is accepted, or any more
}

// An arrival is the first connection to one of the services, or why there is
// none.
type arrival struct {
	conn net.Conn
	at   time.Time
	err  error
}

// accept starts to accept, so that no guest is faster than its host. Every
// goroutine ends when ctx does.
func (b *boot) accept(ctx context.Context) {
	one := func(l net.Listener, use func(arrival) arrival) chan arrival {
		if l == nil {
			return nil
		}
		c := make(chan arrival, 1)
		b.vm.wg.Go(func() { c <- use(acceptOne(ctx, l)) })
		return c
	}
	b.entropy = one(b.vm.listen.entropy, func(a arrival) arrival { return giveEntropy(ctx, a) })
	b.log = one(b.vm.listen.log, b.vm.readOutput)
	b.bridge = one(b.vm.listen.bridge, func(a arrival) arrival { return a })
}

// acceptOne accepts one connection and closes l. A connection that came in
// time is kept also if ctx has ended since: the last words of a guest may be
// in it.
func acceptOne(ctx context.Context, l net.Listener) arrival {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	conn, err := l.Accept()
	l.Close()
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return arrival{conn, time.Now(), err}
}

// giveEntropy sends the guest its random numbers. The end of the connection
// tells it that there are no more.
func giveEntropy(ctx context.Context, a arrival) arrival {
	if a.err != nil {
		return a
	}
	defer a.conn.Close()
	stop := context.AfterFunc(ctx, func() { a.conn.Close() })
	defer stop()
	var b [entropyBytes]byte
	rand.Read(b[:])
	if _, err := a.conn.Write(b[:]); err != nil {
		a.err = fmt.Errorf("writing entropy: %w", err)
		if ctx.Err() != nil {
			a.err = context.Cause(ctx)
		}
	}
	return a
}

func (b *boot) run(ctx context.Context) error {
	vm, begun := b.vm, time.Now()
	if err := vm.sys.Start(ctx); err != nil {
		return err
	}
	b.running = true
	last := time.Now()
	vm.times.add(StageVMM, begun, last)
	wait := func(stage string, c chan arrival) (net.Conn, error) {
		if c == nil {
			return nil, nil
		}
		b.stage = stage
		a := <-c
		if a.err != nil {
			return nil, a.err
		}
		at := a.at
		if at.Before(last) { // the guest was faster than the call that started it
			at = last
		}
		vm.times.add(stage, last, at)
		last = at
		return a.conn, nil
	}
	if _, err := wait(StageKernel, b.entropy); err != nil {
		return err
	}
	if _, err := wait(StageInit, b.log); err != nil {
		return err
	}
	switch {
	case vm.external:
		conn, err := wait(StageAgent, b.bridge)
		b.bridge = nil // it has no second arrival
		if err != nil {
			return err
		}
		return b.connect(ctx, conn)
	case vm.internal:
		return b.ask(ctx)
	}
	return nil
}

// connect makes the bridge over conn.
func (b *boot) connect(ctx context.Context, conn net.Conn) error {
	b.stage = StageBridge
	vm, begun := b.vm, time.Now()
	c, err := bridge.Connect(ctx, conn, bridge.Config{
		Listen:  func(port uint32) (net.Listener, error) { return vm.sys.Listen(hcs.VsockServiceID(port)) },
		Observe: b.record.observe,
		Logger:  vm.log,
	})
	if err == nil {
		err = vm.addressGuest(ctx, c)
	}
	b.record.stop()
	if err != nil {
		if c != nil {
			c.Close()
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return err
	}
	vm.mu.Lock()
	ok := vm.state == started
	if ok {
		vm.client, vm.proto, vm.caps = c, c.Protocol(), c.Capabilities()
	}
	vm.mu.Unlock()
	if !ok {
		c.Close()
		return hcs.ErrStopped
	}
	vm.times.add(StageBridge, begun, time.Now())
	return nil
}

// ask asks the engine what its own connection to the guest found.
func (b *boot) ask(ctx context.Context) error {
	b.stage = StageBridge
	vm, begun := b.vm, time.Now()
	p, err := vm.sys.Properties(ctx, hcsschema.PTGuestConnection)
	if err != nil {
		return err
	}
	if p.GuestConnectionInfo == nil {
		return errors.New("the engine knows of no guest")
	}
	var caps schema1.GuestDefinedCapabilities
	raw, err := json.Marshal(p.GuestConnectionInfo.GuestDefinedCapabilities)
	if err == nil {
		err = json.Unmarshal(raw, &caps)
	}
	if err != nil {
		return fmt.Errorf("reading the guest's capabilities: %w", err)
	}
	vm.mu.Lock()
	defer vm.mu.Unlock()
	vm.proto, vm.caps = uint32(p.GuestConnectionInfo.ProtocolVersion), caps
	vm.times.add(StageBridge, begun, time.Now())
	return nil
}

// cause returns why the VM ended in place of err if that is why a connection
// broke. Connections go before the engine knows of the end of the VM, and how
// it came.
func (b *boot) cause(ctx context.Context, err error) error {
	if !b.running || !broken(err) {
		return err
	}
	t := time.NewTimer(endPatience)
	defer t.Stop()
	select {
	case <-ctx.Done(): // with the VM too
	case <-t.C:
	}
	return cmp.Or(context.Cause(b.vm.stopped), err)
}

// broken reports whether err says that the other end of a connection has gone.
func broken(err error) bool {
	if errors.Is(err, bridge.ErrProtocol) {
		return false // this end has closed it
	}
	return slices.ContainsFunc([]error{
		bridge.ErrClosed, hcs.ErrStopped, io.EOF, io.ErrClosedPipe, net.ErrClosed, syscall.ECONNRESET, syscall.EPIPE,
	}, func(e error) bool { return errors.Is(err, e) })
}

// failed gives back what a start took, and tells what went wrong. ctx has
// ended, and with it every accept.
func (b *boot) failed(ctx context.Context, err error) error {
	vm := b.vm
	vm.listen.close()
	if b.bridge != nil {
		if a := <-b.bridge; a.err == nil {
			a.conn.Close()
		}
	}
	e := &StartError{ID: vm.id, Stage: b.stage, Err: err, Messages: b.record.all()}
	if b.running {
		e.Err = errors.Join(err, vm.stop(ctx))
		errors.As(vm.sys.Err(), &e.Exit)
	}
	vm.drain()
	e.Timeline = vm.Timeline()
	return e
}
