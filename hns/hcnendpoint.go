package hns

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/Microsoft/go-winio/pkg/guid"
)

// An hcn is the network of a Windows host, as the Host Compute Network service
// has it.
type hcn struct {
	service hcnService
	owner   *hcnOwner // of what is made; nil if it is nobody's
}

var _ Network = (*hcn)(nil)

// newID returns the id for something new.
func (h *hcn) newID(kind hcnKind) (guid.GUID, error) {
	if h.owner != nil {
		return h.owner.newID(kind), nil
	}
	return guid.NewV4()
}

// made returns the id of something new, which is the one that the service
// says.
func (h *hcn) made(kind hcnKind, wanted guid.GUID, is string) (guid.GUID, error) {
	id, err := hcnID(is)
	if err != nil {
		return wanted, fmt.Errorf("the new %s: %w", kind, err)
	}
	if h.owner != nil && id != wanted {
		h.owner.note(id, kind)
	}
	return id, nil
}

// read returns an endpoint as the service has it.
func (h *hcn) read(id string) (*hcnEndpoint, guid.GUID, error) {
	g, err := hcnID(id)
	if err != nil {
		return nil, g, err
	}
	var e hcnEndpoint
	if err := h.query(hcnEndpoints, g, &e); err != nil {
		return nil, g, err
	}
	return &e, g, nil
}

// CreateEndpoint implements [Network].
func (h *hcn) CreateEndpoint(ctx context.Context, e *HNSEndpoint) (*HNSEndpoint, error) {
	e = e.Clone()
	made, err := await(ctx, func() (*HNSEndpoint, error) { return h.createEndpoint(ctx, e) }, func(made *HNSEndpoint) {
		h.undo("an endpoint was made too late", made.Id, h.removeEndpoint(context.Background(), made.Id))
	})
	if err != nil {
		return nil, fmt.Errorf("hns: creating endpoint %s: %w", e.Id, err)
	}
	return made, nil
}

func (h *hcn) createEndpoint(ctx context.Context, e *HNSEndpoint) (made *HNSEndpoint, err error) {
	settings, err := newHCNEndpoint(e)
	if err != nil {
		return nil, err
	}
	var id guid.GUID
	if e.Id == "" {
		id, err = h.newID(hcnEndpoints)
	} else {
		id, err = h.unusedID(e.Id)
	}
	if err != nil {
		return nil, err
	}
	if e.Namespace != nil {
		if _, _, err := h.readNamespace(e.Namespace.ID); err != nil {
			return nil, fmt.Errorf("namespace %s: %w", e.Namespace.ID, err)
		}
	}
	network, name, err := h.network(e)
	if err != nil {
		return nil, err
	}
	settings.ID, settings.HostComputeNetwork = id.String(), network.String()
	b, err := json.Marshal(settings)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	properties, err := h.service.Create(hcnEndpoints, network, id, string(b), hcnQuery)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err == nil {
			return
		}
		if rerr := h.removeEndpoint(context.WithoutCancel(ctx), id.String()); !errors.Is(rerr, ErrNotFound) {
			err = errors.Join(err, rerr)
		}
	}()
	var p hcnEndpoint
	if err := json.Unmarshal([]byte(properties), &p); err != nil {
		return nil, fmt.Errorf("reading the new endpoint: %w", err)
	}
	if id, err = h.made(hcnEndpoints, id, p.ID); err != nil {
		return nil, err
	}
	if e.Namespace != nil {
		if _, err := h.addToNamespace(ctx, e.Namespace.ID, p.ID); err != nil {
			return nil, fmt.Errorf("namespace %s: %w", e.Namespace.ID, err)
		}
		p.HostComputeNamespace = e.Namespace.ID
	}
	return p.endpoint(name)
}

// unusedID checks an id that the caller has chosen.
func (h *hcn) unusedID(id string) (guid.GUID, error) {
	_, g, err := h.read(id)
	switch {
	case err == nil:
		return g, ErrAlreadyExists
	case g == guid.GUID{}:
		return g, fmt.Errorf("%q is not a GUID", id)
	case !errors.Is(err, ErrNotFound):
		return g, err
	case h.owner != nil: // it could not be told whose it is
		return g, fmt.Errorf("an id of one's own in a session: %w", ErrNotSupported)
	}
	return g, nil
}

// Endpoint implements [Network].
func (h *hcn) Endpoint(ctx context.Context, idOrName string) (*HNSEndpoint, error) {
	e, err := await(ctx, func() (*HNSEndpoint, error) { return h.endpoint(idOrName) }, nil)
	if err != nil {
		return nil, fmt.Errorf("hns: looking up endpoint %s: %w", idOrName, err)
	}
	return e, nil
}

func (h *hcn) endpoint(idOrName string) (*HNSEndpoint, error) {
	e, _, err := h.read(idOrName)
	if err == nil {
		name, err := h.networkName(e.HostComputeNetwork)
		if err != nil {
			return nil, err
		}
		return e.endpoint(name)
	}
	if !errors.Is(err, ErrNotFound) || idOrName == "" {
		return nil, err
	}
	all, lerr := h.endpoints()
	if lerr != nil {
		return nil, lerr
	}
	var named *HNSEndpoint
	for _, e := range all {
		if e.Name != idOrName {
			continue
		}
		if named != nil {
			return nil, errors.New("more than one endpoint has that name")
		}
		named = e
	}
	if named == nil {
		return nil, err
	}
	return named, nil
}

// Endpoints implements [Network].
func (h *hcn) Endpoints(ctx context.Context) ([]*HNSEndpoint, error) {
	all, err := await(ctx, h.endpoints, nil)
	if err != nil {
		return nil, fmt.Errorf("hns: listing endpoints: %w", err)
	}
	return all, nil
}

func (h *hcn) endpoints() ([]*HNSEndpoint, error) {
	ids, err := h.list(hcnEndpoints)
	if err != nil {
		return nil, err
	}
	all := make([]*HNSEndpoint, 0, len(ids))
	names := make(map[string]string) // of networks
	for _, id := range ids {
		var p hcnEndpoint
		if err := h.query(hcnEndpoints, id, &p); errors.Is(err, ErrNotFound) {
			continue // it has been removed just now
		} else if err != nil {
			return nil, err
		}
		name, ok := names[p.HostComputeNetwork]
		if !ok {
			if name, err = h.networkName(p.HostComputeNetwork); err != nil {
				return nil, err
			}
			names[p.HostComputeNetwork] = name
		}
		e, err := p.endpoint(name)
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

// RemoveEndpoint implements [Network]. When ctx ends, what is under way goes
// on.
func (h *hcn) RemoveEndpoint(ctx context.Context, id string) error {
	if err := do(ctx, func() error { return h.removeEndpoint(ctx, id) }); err != nil {
		return fmt.Errorf("hns: removing endpoint %s: %w", id, err)
	}
	return nil
}

func (h *hcn) removeEndpoint(ctx context.Context, id string) error {
	e, g, err := h.read(id)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	namespace := e.namespace()
	if namespace != "" {
		if err := h.member("Remove", namespace, g); err != nil && !errors.Is(err, ErrNotFound) {
			return fmt.Errorf("taking it out of namespace %s: %w", namespace, err)
		}
	}
	if err := h.service.Delete(hcnEndpoints, g); err != nil {
		if namespace != "" && !errors.Is(err, ErrNotFound) {
			err = errors.Join(err, h.member("Add", namespace, g))
		}
		return err
	}
	if h.owner != nil {
		h.owner.forget(g)
	}
	return nil
}
