package uvm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/bridge"
)

// modify applies a request to host and guest: an Add on the host first, a
// Remove on the host last, so that the guest never has a device that is not
// there. Where the engine speaks to the guest it gets the whole request;
// otherwise it gets the host's half and the bridge the guest's (spec §1.7).
//
// A failed Add is undone, also one that the guest has done when nobody waits
// for it any more. All of that may take longer than ctx: [UtilityVM.carry]
// lets the caller go. A half that could not be undone, or that was done
// when the other failed, is in the error: see [halfDone].
func (vm *UtilityVM) modify(ctx context.Context, req *hcsschema.ModifySettingRequest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	host := *req
	host.GuestRequest = nil
	switch {
	case req.GuestRequest == nil || !vm.external:
		return vm.sys.Modify(ctx, req)
	case req.ResourcePath == "":
		return vm.modifyGuest(ctx, req.GuestRequest)
	case req.RequestType == hcsschema.Add:
		return vm.add(ctx, &host, req.GuestRequest)
	case req.RequestType == hcsschema.Remove:
		if err := vm.modifyGuest(ctx, req.GuestRequest); err != nil {
			return err
		}
		if err := vm.sys.Modify(ctx, &host); err != nil {
			return &halfDone{guest: true, err: fmt.Errorf("removing VM resources: %w", err)}
		}
		return nil
	}
	return vm.modifyGuest(ctx, req.GuestRequest)
}

// add applies both halves of an Add, or none.
func (vm *UtilityVM) add(ctx context.Context, host *hcsschema.ModifySettingRequest, guest any) error {
	if err := vm.sys.Modify(ctx, host); err != nil {
		return fmt.Errorf("adding VM resources: %w", err)
	}
	err := vm.modifyGuest(ctx, guest)
	if err == nil {
		if err = ctx.Err(); err == nil {
			return nil
		}
	}
	back, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	if r, ok := guest.(*hcsschema.GuestRequest); ok && unanswered(err) {
		// The guest may still do what it was asked for; it must let go of the
		// device before the device goes.
		undo := *r
		undo.RequestType = hcsschema.Remove
		if err2 := vm.modifyGuest(back, &undo); err2 != nil {
			vm.log.WarnContext(ctx, "unanswered guest request not undone", "path", host.ResourcePath, "err", err2)
		}
	}
	undo := *host
	undo.RequestType = hcsschema.Remove
	if err2 := vm.sys.Modify(back, &undo); err2 != nil && !errors.Is(err2, hcs.ErrStopped) {
		vm.log.WarnContext(ctx, "failed add not undone", "path", host.ResourcePath, "err", err2)
		return &halfDone{host: true, err: errors.Join(err, fmt.Errorf("undoing: %w", err2))}
	}
	return &halfDone{err: err}
}

// answerGrace is how long the answer to a guest request is waited for after its
// context has ended. The caller does not wait: see [UtilityVM.carry].
var answerGrace = 10 * time.Second

// modifyGuest sends a guest request over the bridge. A guest works on requests
// side by side: one that follows could overtake one that was called off, and
// leave what it should have undone. So the answer is waited for longer than the
// context lasts, and when it comes, it counts.
func (vm *UtilityVM) modifyGuest(ctx context.Context, req any) error {
	c, err := vm.guest()
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	call, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(answerGrace, cancel)
		context.AfterFunc(call, func() { timer.Stop() })
	})
	defer stop()
	err = c.Modify(call, req)
	if call.Err() != nil && errors.Is(err, context.Canceled) {
		err = ctx.Err()
	}
	if err := vm.guestError(err); err != nil {
		return fmt.Errorf("guest modify: %w", err)
	}
	return nil
}

// unanswered reports whether err leaves open what the guest did, or will do.
func unanswered(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, bridge.ErrNoAnswer)
}

// A halfDone is the error of a request whose host's and guest's half fared
// differently: an Add that the guest refused, or a Remove that the host did.
// It reads like the error that it wraps.
type halfDone struct {
	host  bool // of an Add: the host still has the resource
	guest bool // of a Remove: the guest has let go of the resource
	err   error
}

func (e *halfDone) Error() string { return e.err.Error() }

// Unwrap returns what went wrong.
func (e *halfDone) Unwrap() error { return e.err }
