//go:build linux

package virtio

import "runtime/debug"

// A leader is a queue with the goroutines that wait for one kick of it.
type leader struct {
	Relay
	q     *queue
	kick  *Kick
	batch []*Chain // of look; of who leads
}

// lead looks at the ring whenever the guest kicks, until k is closed.
func (q *queue) lead(k *Kick) {
	l := &leader{q: q, kick: k}
	l.Lead = l.run
	go l.run(0)
}

func (l *leader) run(term int) {
	for more := true; more || l.q.b.Wait(l.kick); {
		var c *Chain
		if c, more = l.look(); c == nil {
			continue
		}
		c.yield = func() { l.Yield(term) }
		l.Lock()
		l.Enter()
		l.Unlock()
		l.q.serve(c)
		l.Lock()
		still := l.Leave(term)
		l.Unlock()
		if !still {
			return
		}
	}
	l.End()
	l.kick.Free()
}

// look takes the chains that are there, as many as may be served, and returns
// the first one; the others are served by goroutines of their own. It asks for a
// kick when there are none left. If there may be some, more is true.
func (l *leader) look() (first *Chain, more bool) {
	q := l.q
	chains, more := q.take(l.batch[:0])
	for i, c := range chains {
		if i == 0 {
			first = c
		} else {
			go q.serve(c)
		}
	}
	clear(chains)
	l.batch = chains
	return first, more
}

// take appends the chains that are there to to.
func (q *queue) take(to []*Chain) (got []*Chain, more bool) {
	got = to          // also what a fault leaves
	spare := roomNone // that turns out not to be needed
	defer func() { q.d.move(&spare, roomNone) }()
	q.Lock()
	defer q.Leave(debug.SetPanicOnFault(true))
	if !q.running {
		return got, false
	}
	q.NeedNoKick()
	for q.d.acquire(q.index) {
		spare = roomServing
		c, err := q.nextOrKick()
		if c == nil {
			if err != nil {
				q.Fail()
				q.b.Stop(err)
			}
			return got, false
		}
		q.d.jobs.Add(1)
		got = append(got, c)
		spare = roomNone
	}
	return got, len(got) > 0 // who leaves nudges when there is room again
}

// nextOrKick is next; when there is none the guest will kick.
func (q *queue) nextOrKick() (*Chain, error) {
	c, err := q.next()
	if c == nil && err == nil {
		q.WantKick()
		c, err = q.next()
	}
	return c, err
}

// serve has a chain served.
func (q *queue) serve(c *Chain) {
	defer q.d.jobs.Done()
	q.d.serve(q.index, c)
	c.yielded.Store(true)
	q.d.move(&c.counts, roomNone)
}
