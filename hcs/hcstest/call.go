package hcstest

import (
	"context"
	"encoding/json"
	"sync"
)

// Operations of a [Call]. Messages that a [Guest] gets over the bridge are
// recorded as "bridge:" and the name of the procedure. Containers and
// processes of the internal connection have calls of their own, with the
// container's id as System.
const (
	OpCreate        = "create"
	OpCreated       = "created" // for the hook only: fails a create after the system was made
	OpStart         = "start"
	OpModify        = "modify"
	OpProperties    = "properties"
	OpListen        = "listen"
	OpDial          = "dial"
	OpShutdown      = "shutdown"
	OpTerminate     = "terminate"
	OpClose         = "close"
	OpGrantAccess   = "grant-access"
	OpCreateProcess = "create-process"
	OpModifyProcess = "modify-process"
	OpSignalProcess = "signal-process"
	OpKillProcess   = "kill-process"
)

// A Call is something that reached the engine or the guest.
type Call struct {
	Op     string
	Nth    int    // among the calls with this Op, from 1
	System string // id of the system or container
	Path   string // of GrantAccess: the file; of Listen and Dial: the service
	// Document is the document of Create, the request of Modify, the types of
	// Properties as a query, the access of GrantAccess, the parameters of a
	// process, or the body of a message.
	Document json.RawMessage
	Err      error // what the call returned
}

// FailNth returns a hook that fails the n-th call of op with err; 0 fails all
// of them.
func FailNth(op string, n int, err error) func(context.Context, Call) error {
	return func(_ context.Context, c Call) error {
		if c.Op == op && (n == 0 || c.Nth == n) {
			return err
		}
		return nil
	}
}

// A recorder keeps calls in order.
type recorder struct {
	hook func(context.Context, Call) error

	mu    sync.Mutex
	calls []*Call
	count map[string]int
}

// do records a call, asks the hook, and does f unless the hook failed.
func (r *recorder) do(ctx context.Context, c Call, doc any, f func() error) error {
	rec := &c
	if doc != nil {
		rec.Document, _ = json.Marshal(doc) // what does not encode is recorded as empty
	}
	r.mu.Lock()
	rec.Nth = r.next(c.Op)
	if c.Op != OpCreated {
		r.calls = append(r.calls, rec)
	}
	asked := *rec
	r.mu.Unlock()
	var err error
	if r.hook != nil {
		err = r.hook(ctx, asked)
	}
	if err == nil {
		err = f()
	}
	r.mu.Lock()
	rec.Err = err
	r.mu.Unlock()
	return err
}

// note records a call without asking the hook.
func (r *recorder) note(c Call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.Nth = r.next(c.Op)
	r.calls = append(r.calls, &c)
}

// ask asks the hook about a call that has been noted.
func (r *recorder) ask(ctx context.Context, c Call) error {
	if r.hook == nil {
		return nil
	}
	r.mu.Lock()
	c.Nth = r.next("ask " + c.Op)
	r.mu.Unlock()
	return r.hook(ctx, c)
}

// next counts a call. r.mu is held.
func (r *recorder) next(op string) int {
	if r.count == nil {
		r.count = make(map[string]int)
	}
	r.count[op]++
	return r.count[op]
}

func (r *recorder) list() []Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := make([]Call, len(r.calls))
	for i, c := range r.calls {
		l[i] = *c
	}
	return l
}
