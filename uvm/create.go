package uvm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/Microsoft/go-winio/pkg/guid"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/hns"
	"github.com/byrevm/byre/internal/engine"
)

// listeners are the services of the host that a guest connects to while it
// boots. The members that are not wanted are nil.
type listeners struct {
	entropy, log, bridge net.Listener
}

func (l *listeners) close() {
	for _, l := range []net.Listener{l.entropy, l.log, l.bridge} {
		if l != nil {
			l.Close()
		}
	}
}

// newUVM makes a UtilityVM without a system. It draws an id if there is none
// and stores it in o.
func newUVM(o *Options, os string) (*UtilityVM, error) {
	if o == nil {
		return nil, errOptions
	}
	e := o.Engine
	switch {
	case e == nil && o.Network != nil:
		e = engine.New(engine.Config{Network: o.Network})
	case e == nil:
		e = engine.Host()
	}
	if o.ID == "" {
		id, err := guid.NewV4()
		if err != nil {
			return nil, fmt.Errorf("drawing an id: %w", err)
		}
		o.ID = id.String()
	}
	vm := &UtilityVM{
		id:         o.ID,
		owner:      o.Owner,
		os:         os,
		engine:     e,
		host:       e.Host(),
		network:    o.Network,
		log:        slog.Default().With("uvm", o.ID),
		external:   o.ExternalGuestConnection,
		outputDone: make(chan struct{}),
	}
	if vm.network == nil {
		vm.network = hns.Host()
	}
	vm.pci.init(vm.host.PCIDevices)
	vm.closed = sync.OnceValue(vm.close)
	return vm, nil
}

// create makes the system that doc describes and listens on services. On
// error nothing is left.
func (vm *UtilityVM) create(ctx context.Context, doc *hcsschema.ComputeSystem, extra string, services services) (err error) {
	d, err := hcs.NewDocument(doc, extra)
	if err != nil {
		return fmt.Errorf("merging additional JSON into the document: %w", err)
	}
	begun := time.Now()
	if vm.sys, err = vm.engine.Create(ctx, vm.id, d); err != nil {
		return err
	}
	vm.times.add(StageCreate, begun, time.Now())
	if err := vm.open(services); err != nil {
		vm.listen.close()
		return errors.Join(err, vm.sys.Close())
	}
	if vm.listen.log == nil {
		vm.finishOutput()
	}
	var stop context.CancelCauseFunc
	vm.stopped, stop = context.WithCancelCause(context.Background())
	vm.wg.Go(func() {
		<-vm.sys.Done()
		stop(cmp.Or(vm.sys.Err(), hcs.ErrStopped))
		vm.end()
	})
	return nil
}

// services says what to listen on; the zero service is none.
type services struct {
	entropy, log, bridge hcs.ServiceID
}

func (vm *UtilityVM) open(s services) error {
	for _, x := range []struct {
		what    string
		service hcs.ServiceID
		l       *net.Listener
	}{
		{"entropy", s.entropy, &vm.listen.entropy},
		{"log", s.log, &vm.listen.log},
		{"bridge", s.bridge, &vm.listen.bridge},
	} {
		if x.service == (hcs.ServiceID{}) {
			continue
		}
		l, err := vm.sys.Listen(x.service)
		if err != nil {
			return fmt.Errorf("listening for the %s connection: %w", x.what, err)
		}
		*x.l = l
	}
	return nil
}
