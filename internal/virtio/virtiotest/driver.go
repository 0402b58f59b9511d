//go:build linux

package virtiotest

import (
	"math/bits"
	"net"
	"sync"
	"testing"
)

// A Config says what a driver does.
type Config struct {
	Queues           int
	Num              uint16 // descriptors of each ring; 0: 64
	Events, Indirect bool
	Piece            int // bytes of a descriptor; 0: 4096
}

// A Driver is a guest's driver of a device that answers requests.
type Driver struct {
	*Frontend
	c     Config
	lanes []*lane
	wg    sync.WaitGroup

	mu    sync.Mutex
	spare map[int][]uint64 // offsets of free memory, by the logarithm of its size
}

// A lane is a queue with what is under way in it.
type lane struct {
	*Queue
	mu   sync.Mutex
	cond *sync.Cond
	free []uint16 // descriptors
	busy map[uint16]*Request
}

// A Request is a chain that the device has, or had.
type Request struct {
	table, tableSize uint64
	heads            []uint16
	in, out          uint64 // offsets
	inSize, outSize  int
	answer           []byte
	done             chan struct{}
}

// Done is closed when the device has answered.
func (r *Request) Done() <-chan struct{} { return r.done }

// Answer waits for the answer.
func (r *Request) Answer() []byte {
	<-r.done
	return r.answer
}

// Boot brings a driver up at the other end of conn. The driver ends with the
// test, after which nothing answers; close the device before.
func Boot(t testing.TB, conn *net.UnixConn, c Config) *Driver {
	t.Helper()
	d := NewDriver(t, conn, c)
	d.Handshake()
	d.AddMemory()
	d.Start()
	return d
}

// NewDriver is Boot that does not say a word to the device.
func NewDriver(t testing.TB, conn *net.UnixConn, c Config) *Driver {
	t.Helper()
	if c.Num == 0 {
		c.Num = 64
	}
	if c.Piece == 0 {
		c.Piece = 4096
	}
	d := &Driver{Frontend: New(t, conn), c: c, spare: map[int][]uint64{}}
	for i := range c.Queues {
		l := &lane{Queue: d.NewQueue(uint32(i), c.Num, c.Events)}
		l.cond = sync.NewCond(&l.mu)
		l.reset()
		d.lanes = append(d.lanes, l)
	}
	return d
}

// Start gives the rings to the device.
func (d *Driver) Start() {
	d.T.Helper()
	var f uint64 = FeatProtocol | FeatVersion1
	if d.c.Events {
		f |= FeatEvents
	}
	if d.c.Indirect {
		f |= FeatIndirect
	}
	d.Do(SetFeatures, Words64(f))
	for _, l := range d.lanes {
		l.Queue.Start()
	}
	d.Collect()
}

// Collect takes answers from now on. Start does that.
func (d *Driver) Collect() {
	for _, l := range d.lanes {
		d.wg.Go(func() { d.collect(l) })
	}
	d.T.Cleanup(d.end)
}

// Restart is what a new driver does after another one, or the same, has stopped
// all queues: everything from zero. What was under way is never answered.
func (d *Driver) Restart() {
	d.T.Helper()
	d.end()
	for _, l := range d.lanes {
		clear(d.Mem[l.Avail : l.Avail+6+2*uint64(l.Num)])
		clear(d.Mem[l.Used : l.Used+6+8*uint64(l.Num)])
		l.AvailIdx, l.UsedIdx = 0, 0
		l.Kick, l.Call = Eventfd(d.T), Eventfd(d.T)
		l.reset()
	}
	d.Start()
}

// end stops taking answers.
func (d *Driver) end() {
	for _, l := range d.lanes {
		l.Call.Close()
	}
	d.wg.Wait()
}

// reset forgets what is under way.
func (l *lane) reset() {
	l.free, l.busy = nil, map[uint16]*Request{}
	for i := range l.Num {
		l.free = append(l.free, i)
	}
}

// Queue returns a queue, for tests that have their own way with it.
func (d *Driver) Queue(i int) *Queue { return d.lanes[i].Queue }

// Submit sends a request with room for an answer of out bytes, and returns the
// answer.
func (d *Driver) Submit(queue int, in []byte, out int) []byte {
	return d.Go(queue, in, out).Answer()
}

// Go is Submit that does not wait for the answer, only for room in the ring.
func (d *Driver) Go(queue int, in []byte, out int) *Request {
	l := d.lanes[queue]
	r := &Request{inSize: len(in), outSize: out, done: make(chan struct{})}
	r.in, r.out = d.get(len(in)), d.get(out)
	copy(d.Mem[r.in:], in)
	descs := d.describe(r)
	n := len(descs)
	if d.c.Indirect {
		r.table, r.tableSize = d.get(n*DescLen), uint64(n*DescLen)
		n = 1
	}
	if n > int(d.c.Num) {
		d.T.Errorf("a request of %d descriptors", n)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.free) < n {
		l.cond.Wait()
	}
	r.heads = append(r.heads, l.free[len(l.free)-n:]...)
	l.free = l.free[:len(l.free)-n]
	head := r.heads[0]
	if d.c.Indirect {
		for i, x := range descs {
			x.Next = uint16(i + 1)
			d.Describe(r.table, i, x)
		}
		d.Describe(l.Desc, int(head), Descriptor{GuestBase + r.table, uint32(r.tableSize), DescIndirect, 0})
	} else {
		for i, x := range descs {
			if i+1 < n {
				x.Next = r.heads[i+1]
			}
			d.Describe(l.Desc, int(r.heads[i]), x)
		}
	}
	l.busy[head] = r
	l.Offer(head)
	return r
}

// describe returns the descriptors of a request.
func (d *Driver) describe(r *Request) []Descriptor {
	var all []Descriptor
	add := func(at uint64, n int, flags uint16) {
		for n > 0 {
			m := min(n, d.c.Piece)
			all = append(all, Descriptor{GuestBase + at, uint32(m), flags | DescNext, 0})
			at, n = at+uint64(m), n-m
		}
	}
	add(r.in, r.inSize, 0)
	add(r.out, r.outSize, DescWrite)
	all[len(all)-1].Flags &^= DescNext
	return all
}

// collect takes the answers of a lane.
func (d *Driver) collect(l *lane) {
	for {
		l.mu.Lock()
		head, n, ok := l.Take()
		if !ok {
			l.mu.Unlock()
			if l.Wait() != nil {
				return
			}
			continue
		}
		r := l.busy[head]
		delete(l.busy, head)
		if r == nil || n > r.outSize {
			d.T.Errorf("answer to descriptor %d of %d bytes", head, n)
			l.mu.Unlock()
			continue
		}
		l.free = append(l.free, r.heads...)
		l.cond.Broadcast()
		l.mu.Unlock()
		r.answer = append([]byte{}, d.Mem[r.out:r.out+uint64(n)]...)
		d.put(r.in, r.inSize)
		d.put(r.out, r.outSize)
		d.put(r.table, int(r.tableSize))
		close(r.done)
	}
}

// get returns the offset of n bytes of guest memory.
func (d *Driver) get(n int) uint64 {
	if n == 0 {
		return 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	k := max(bits.Len(uint(n-1)), 6)
	if s := d.spare[k]; len(s) > 0 {
		d.spare[k] = s[:len(s)-1]
		return s[len(s)-1]
	}
	return d.Alloc(1 << k)
}

func (d *Driver) put(o uint64, n int) {
	if n == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	k := max(bits.Len(uint(n-1)), 6)
	d.spare[k] = append(d.spare[k], o)
}
