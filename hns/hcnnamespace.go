package hns

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"github.com/Microsoft/go-winio/pkg/guid"
)

// readNamespace returns a namespace as the service has it, which is our form.
func (h *hcn) readNamespace(id string) (*HostComputeNamespace, guid.GUID, error) {
	g, err := hcnID(id)
	if err != nil {
		return nil, g, err
	}
	var ns HostComputeNamespace
	if err := h.query(hcnNamespaces, g, &ns); err != nil {
		return nil, g, err
	}
	ns.Id = CanonicalID(ns.Id)
	return &ns, g, nil
}

// CreateNamespace implements [Network]. It is one for utility VMs.
func (h *hcn) CreateNamespace(ctx context.Context) (*HostComputeNamespace, error) {
	ns, err := await(ctx, h.createNamespace, func(ns *HostComputeNamespace) {
		h.undo("a namespace was made too late", ns.Id, h.removeNamespace(context.Background(), ns.Id))
	})
	if err != nil {
		return nil, fmt.Errorf("hns: creating a namespace: %w", err)
	}
	return ns, nil
}

func (h *hcn) createNamespace() (*HostComputeNamespace, error) {
	id, err := h.newID(hcnNamespaces)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(HostComputeNamespace{Id: id.String(), Type: NamespaceGuest, SchemaVersion: SchemaVersion{Major: 2}})
	if err != nil {
		return nil, err
	}
	properties, err := h.service.Create(hcnNamespaces, guid.GUID{}, id, string(b), hcnQuery)
	if err != nil {
		return nil, err
	}
	ns := new(HostComputeNamespace)
	if err = json.Unmarshal([]byte(properties), ns); err == nil {
		id, err = h.made(hcnNamespaces, id, ns.Id)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reading the new namespace: %w", err), h.service.Delete(hcnNamespaces, id))
	}
	ns.Id = CanonicalID(ns.Id)
	return ns, nil
}

// Namespace implements [Network].
func (h *hcn) Namespace(ctx context.Context, id string) (*HostComputeNamespace, error) {
	ns, err := await(ctx, func() (*HostComputeNamespace, error) {
		ns, _, err := h.readNamespace(id)
		return ns, err
	}, nil)
	if err != nil {
		return nil, fmt.Errorf("hns: looking up namespace %s: %w", id, err)
	}
	return ns, nil
}

// RemoveNamespace implements [Network]. When ctx ends, what is under way goes
// on.
func (h *hcn) RemoveNamespace(ctx context.Context, id string) error {
	if err := do(ctx, func() error { return h.removeNamespace(ctx, id) }); err != nil {
		return fmt.Errorf("hns: removing namespace %s: %w", id, err)
	}
	return nil
}

func (h *hcn) removeNamespace(ctx context.Context, id string) (err error) {
	ns, g, err := h.readNamespace(id)
	if err != nil {
		return err
	}
	members, err := ns.EndpointIDs()
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	var out []guid.GUID
	defer func() {
		if err == nil || errors.Is(err, ErrNotFound) {
			return
		}
		for _, e := range out {
			err = errors.Join(err, h.member("Add", id, e))
		}
	}()
	for _, m := range members {
		e, err := hcnID(m)
		if err != nil {
			return err
		}
		if err := h.member("Remove", id, e); errors.Is(err, ErrNotFound) {
			continue // it is gone
		} else if err != nil {
			return fmt.Errorf("taking endpoint %s out: %w", m, err)
		}
		out = append(out, e)
	}
	if err := h.service.Delete(hcnNamespaces, g); err != nil {
		return err
	}
	if h.owner != nil {
		h.owner.forget(g)
	}
	return nil
}

// AddToNamespace implements [Network].
func (h *hcn) AddToNamespace(ctx context.Context, namespaceID, endpointID string) error {
	_, err := await(ctx, func() (bool, error) { return h.addToNamespace(ctx, namespaceID, endpointID) }, func(added bool) {
		if added {
			h.undo("an endpoint was added too late", endpointID, h.removeFromNamespace(context.Background(), namespaceID, endpointID))
		}
	})
	if err != nil {
		return fmt.Errorf("hns: adding endpoint %s to namespace %s: %w", endpointID, namespaceID, err)
	}
	return nil
}

// addToNamespace also tells whether it was this call that did it.
func (h *hcn) addToNamespace(ctx context.Context, namespaceID, endpointID string) (added bool, err error) {
	if _, _, err := h.readNamespace(namespaceID); err != nil {
		return false, err
	}
	e, g, err := h.read(endpointID)
	if err != nil {
		return false, err
	}
	if in := e.namespace(); in != "" {
		return false, sameNamespace(in, namespaceID)
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	err = h.member("Add", namespaceID, g)
	if err == nil {
		return true, nil
	}
	// Somebody else may have been faster.
	if e, _, rerr := h.read(endpointID); rerr == nil && e.namespace() != "" {
		return false, sameNamespace(e.namespace(), namespaceID)
	}
	return false, err
}

// sameNamespace returns nil if the namespace where an endpoint is, is the one
// where it shall be.
func sameNamespace(is, want string) error {
	if SameID(is, want) {
		return nil
	}
	return fmt.Errorf("it is in namespace %s: %w", is, ErrAlreadyExists)
}

// RemoveFromNamespace implements [Network].
func (h *hcn) RemoveFromNamespace(ctx context.Context, namespaceID, endpointID string) error {
	_, err := await(ctx, func() (struct{}, error) {
		return struct{}{}, h.removeFromNamespace(ctx, namespaceID, endpointID)
	}, func(struct{}) {
		_, err := h.addToNamespace(context.Background(), namespaceID, endpointID)
		h.undo("an endpoint was taken out too late", endpointID, err)
	})
	if err != nil {
		return fmt.Errorf("hns: removing endpoint %s from namespace %s: %w", endpointID, namespaceID, err)
	}
	return nil
}

func (h *hcn) removeFromNamespace(ctx context.Context, namespaceID, endpointID string) error {
	if _, _, err := h.readNamespace(namespaceID); err != nil {
		return err
	}
	e, g, err := h.read(endpointID)
	if err != nil {
		return err
	}
	if !SameID(e.namespace(), namespaceID) {
		return fmt.Errorf("it is not in it: %w", ErrNotFound)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return h.member("Remove", namespaceID, g)
}

// member puts an endpoint into a namespace or takes it out.
func (h *hcn) member(request, namespaceID string, endpoint guid.GUID) error {
	ns, err := hcnID(namespaceID)
	if err != nil {
		return err
	}
	settings, err := hcnMember(request, endpoint.String())
	if err != nil {
		return err
	}
	return h.service.Modify(hcnNamespaces, ns, settings)
}

// undo says that something that nobody waited for any more stays.
func (h *hcn) undo(what, id string, err error) {
	if err != nil && !errors.Is(err, ErrNotFound) {
		slog.Warn(what+" and stays", "id", id, "err", err)
	}
}
