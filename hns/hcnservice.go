package hns

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/Microsoft/go-winio/pkg/guid"
)

// hcnKind is a kind of object of the Host Compute Network service, as the
// names of its functions spell it.
type hcnKind string

const (
	hcnNetworks   hcnKind = "Network"
	hcnEndpoints  hcnKind = "Endpoint"
	hcnNamespaces hcnKind = "Namespace"
)

// hcnQuery asks for the standard properties in the schema of today.
const hcnQuery = `{"SchemaVersion":{"Major":2,"Minor":0}}`

// hcnService is the Host Compute Network service: the functions of
// computenetwork.dll, each with the handle that it needs opened and closed.
// Settings, queries and properties are JSON. A call takes as long as the
// service does, and cannot be called off.
type hcnService interface {
	// List returns the ids of all objects of a kind.
	List(kind hcnKind, query string) (ids string, err error)
	// Query returns the properties of an object.
	Query(kind hcnKind, id guid.GUID, query string) (properties string, err error)
	// Create makes an object, an endpoint on a network, and returns its
	// properties. On error it is not there.
	Create(kind hcnKind, network, id guid.GUID, settings, query string) (properties string, err error)
	// Modify changes an object.
	Modify(kind hcnKind, id guid.GUID, settings string) error
	// Delete removes an object.
	Delete(kind hcnKind, id guid.GUID) error
}

// await waits for do, whose calls cannot be called off, as long as ctx lets
// it. If do ends well when nobody waits for it any more, undo (unless it is
// nil) takes that back. do asks ctx before it changes anything.
func await[T any](ctx context.Context, do func() (T, error), undo func(T)) (T, error) {
	var zero T
	if err := ctx.Err(); err != nil {
		return zero, err
	}
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() { // ends with the calls that are under way
		v, err := do()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
		go func() { // ends after that
			if r := <-done; r.err == nil && undo != nil {
				undo(r.v)
			}
		}()
		return zero, ctx.Err()
	}
}

// do is await for what returns nothing.
func do(ctx context.Context, f func() error) error {
	_, err := await(ctx, func() (struct{}, error) { return struct{}{}, f() }, nil)
	return err
}

// hcnID parses an id. What is none names nothing.
func hcnID(id string) (guid.GUID, error) {
	g, err := guid.FromString(CanonicalID(id))
	if err != nil {
		return g, fmt.Errorf("%q is not a GUID: %w", id, ErrNotFound)
	}
	return g, nil
}

// list returns the ids of all objects of a kind.
func (h *hcn) list(kind hcnKind) ([]guid.GUID, error) {
	s, err := h.service.List(kind, hcnQuery)
	if err != nil {
		return nil, err
	}
	var ids []guid.GUID
	if s == "" { // so the service may say that there are none
		return nil, nil
	}
	if err := json.Unmarshal([]byte(s), &ids); err != nil {
		return nil, fmt.Errorf("reading the ids of each %s: %w", kind, err)
	}
	return ids, nil
}

// query reads the properties of an object into v. An object that is not there
// is ErrNotFound, whatever the service has answered.
func (h *hcn) query(kind hcnKind, id guid.GUID, v any) error {
	s, err := h.service.Query(kind, id, hcnQuery)
	if err != nil {
		if !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrNotSupported) && !h.exists(kind, id) {
			err = fmt.Errorf("%w: %w", ErrNotFound, err)
		}
		return err
	}
	if err := json.Unmarshal([]byte(s), v); err != nil {
		return fmt.Errorf("reading %s %s: %w", kind, id, err)
	}
	return nil
}

// exists reports whether an object is there, or it is not known.
func (h *hcn) exists(kind hcnKind, id guid.GUID) bool {
	ids, err := h.list(kind)
	if err != nil {
		return true
	}
	for _, i := range ids {
		if i == id {
			return true
		}
	}
	return false
}
