package computecore

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

// changes lets one request at a time change one thing. A request whose caller
// has gone keeps its turn until its result is there and was dealt with.
type changes struct {
	mu      sync.Mutex
	turns   map[string]chan struct{} // by what is changed; closed when the turn is over
	removed map[string]bool          // what callers believe to be there still
}

// keyOf says what a request changes: a resource path, or an element of a
// list.
func keyOf(req *hcsschema.ModifySettingRequest) string {
	var s struct{ Name string }
	if p, err := hcs.ParsePath(req.ResourcePath); err == nil && (p.Resource == hcs.ResourcePlan9 || p.Resource == hcs.ResourceVSMB) {
		if b, err := json.Marshal(req.Settings); err == nil {
			_ = json.Unmarshal(b, &s) // settings of another form are the service's to refuse
		}
	}
	return req.ResourcePath + "#" + s.Name
}

// begin waits for the turn of a change of key.
func (c *changes) begin(ctx context.Context, done <-chan struct{}, key string) error {
	for {
		c.mu.Lock()
		turn := c.turns[key]
		if turn == nil {
			if c.turns == nil {
				c.turns, c.removed = make(map[string]chan struct{}), make(map[string]bool)
			}
			c.turns[key] = make(chan struct{})
			c.mu.Unlock()
			return nil
		}
		c.mu.Unlock()
		select {
		case <-turn:
		case <-done:
			return hcs.ErrStopped
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// end ends the turn that begin gave.
func (c *changes) end(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.turns[key])
	delete(c.turns, key)
}

// wasRemoved reports whether key is gone though its caller was told that
// removing it failed; that is forgotten then.
func (c *changes) wasRemoved(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.removed[key]
	delete(c.removed, key)
	return was
}

// Modify implements [hcs.System]. If ctx ends while the service is at it, the
// outcome is made to be that nothing has changed, before anything else can
// change the same thing: an addition is taken back, and a removal that
// succeeded late counts as the next one's. That the system has stopped is the
// service's to say.
func (s *System) Modify(ctx context.Context, req *hcsschema.ModifySettingRequest) error {
	const op = "modify"
	path := req.ResourcePath
	err := s.was(running)
	if err != nil && s.Err() != nil {
		err = hcs.ErrStopped
	}
	switch {
	case err != nil:
	case req.GuestRequest != nil && !s.internal:
		err = fmt.Errorf("%w: member \"GuestRequest\" without GuestConnection", hcs.ErrNotSupported)
	case path == "" && req.GuestRequest == nil:
		err = fmt.Errorf("%w: a request without ResourcePath", hcs.ErrNotSupported)
	}
	if err != nil {
		return s.fail(op, path, err)
	}
	doc, err := json.Marshal(req)
	if err != nil {
		return s.fail(op, path, err)
	}
	if path == "" { // of the guest's own things only it knows which are the same
		_, err := s.do(ctx, op, path, CallModify, string(doc), dropped)
		return err
	}
	key := keyOf(req)
	if err := s.changes.begin(ctx, s.Done(), key); err != nil {
		return s.fail(op, path, err)
	}
	if s.changes.wasRemoved(key) && req.RequestType == hcsschema.Remove {
		s.changes.end(key)
		return nil
	}
	_, err = s.do(ctx, op, path, CallModify, string(doc), func(r Result) {
		defer s.changes.end(key)
		s.undo(req, key, r)
	})
	if !isPending(err) {
		s.changes.end(key)
	}
	return err
}

// undo makes true what the caller of req was told, that nothing has changed.
func (s *System) undo(req *hcsschema.ModifySettingRequest, key string, r Result) {
	switch {
	case r.Failed():
	case req.RequestType == hcsschema.Remove:
		s.changes.mu.Lock()
		defer s.changes.mu.Unlock()
		s.changes.removed[key] = true
	case req.RequestType == hcsschema.Add:
		back := *req
		back.RequestType, back.GuestRequest = hcsschema.Remove, nil
		doc, err := json.Marshal(back)
		if err == nil {
			_, err = s.do(context.Background(), "modify", req.ResourcePath, CallModify, string(doc), dropped)
		}
		if err != nil && s.Err() == nil {
			s.e.log.Warn("device left in the system that was added too late", "uvm", s.id, "path", req.ResourcePath, "err", err)
		}
	}
}
