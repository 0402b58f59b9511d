package uvm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"unicode/utf8"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

// An attachment is a resource that host and guest have, with what is left to
// do to get rid of it: the guest's half, then the host's. It is guarded by
// the key of its refs.
type attachment struct {
	path     string // resource path
	place    string // where the guest has it, if that is the caller's choice
	settings any    // of the host's Remove
	guest    *hcsschema.GuestRequest
	letGo    bool // the guest's half is done, only the host has it
}

// detach removes a. If it fails, call it again: it goes on with the half that
// failed. A host that does not have a any more has let go of it: a Remove that
// was called off goes on in an engine, and the next one finds nothing.
func (vm *UtilityVM) detach(ctx context.Context, a *attachment) error {
	if err := vm.unions.wait(ctx); err != nil { // a may be a layer of one
		return err
	}
	req := &hcsschema.ModifySettingRequest{RequestType: hcsschema.Remove, ResourcePath: a.path, Settings: a.settings}
	if a.guest != nil && !a.letGo {
		req.GuestRequest = a.guest
	}
	err := vm.at(ctx, a.place, func() error { return vm.modify(ctx, req) })
	var half *halfDone
	if errors.As(err, &half) && half.guest {
		a.letGo = true
	}
	if fromHost := req.GuestRequest == nil || vm.external && a.letGo; fromHost && errors.Is(err, hcs.ErrNotFound) {
		return nil
	}
	return err
}

// checkText refuses paths and names that no document can have: in JSON they
// would become those of other files.
func checkText(names ...string) error {
	for _, n := range names {
		if !utf8.ValidString(n) {
			return fmt.Errorf("%w: %q is not UTF-8", hcs.ErrNotSupported, n)
		}
	}
	return nil
}

// A release gives back one use of something, once.
type release struct {
	mu   sync.Mutex
	done bool
}

// do calls f unless it has succeeded before.
func (r *release) do(f func() error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done {
		return nil
	}
	err := f()
	r.done = err == nil
	return err
}
