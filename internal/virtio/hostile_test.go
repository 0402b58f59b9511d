//go:build linux

package virtio

import (
	"os"
	"strings"
	"testing"

	"github.com/byrevm/byre/internal/virtio/virtiotest"
)

// ends waits for the device to end and checks the reason.
func ends(t *testing.T, d *Device, want string) {
	t.Helper()
	<-d.Done()
	if err := d.Err(); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

// A driver that breaks the rules of rings ends the device.
func TestBrokenRings(t *testing.T) {
	const far = 1 << 50
	cases := map[string]struct {
		do   func(g *virtiotest.Driver, q *virtiotest.Queue)
		want string
	}{
		"head out of range": {func(g *virtiotest.Driver, q *virtiotest.Queue) { q.Offer(q.Num) }, "index out of range"},
		"index runs away": {func(g *virtiotest.Driver, q *virtiotest.Queue) {
			q.AvailIdx += q.Num + 1
			q.Offer()
			q.DoKick()
		}, "available index"},
		"next out of range": {func(g *virtiotest.Driver, q *virtiotest.Queue) {
			g.Describe(q.Desc, 0, virtiotest.Desc(virtiotest.GuestBase, 44, virtiotest.DescNext, 0xffff))
			q.Offer(0)
		}, "index out of range"},
		"loop": {func(g *virtiotest.Driver, q *virtiotest.Queue) {
			g.Describe(q.Desc, 0, virtiotest.Desc(virtiotest.GuestBase, 1, virtiotest.DescNext, 0))
			q.Offer(0)
		}, "chain too long"},
		"no such memory": {func(g *virtiotest.Driver, q *virtiotest.Queue) {
			g.Describe(q.Desc, 0, virtiotest.Desc(far, 44, 0, 0))
			q.Offer(0)
		}, "no such memory"},
		"beyond the end": {func(g *virtiotest.Driver, q *virtiotest.Queue) {
			g.Describe(q.Desc, 0, virtiotest.Desc(virtiotest.GuestBase+virtiotest.GuestSize-10, 44, 0, 0))
			q.Offer(0)
		}, "no such memory"},
		"address overflow": {func(g *virtiotest.Driver, q *virtiotest.Queue) {
			g.Describe(q.Desc, 0, virtiotest.Desc(^uint64(0)-3, 44, 0, 0))
			q.Offer(0)
		}, "no such memory"},
		"empty descriptor": {func(g *virtiotest.Driver, q *virtiotest.Queue) {
			g.Describe(q.Desc, 0, virtiotest.Desc(virtiotest.GuestBase, 0, 0, 0))
			q.Offer(0)
		}, "empty descriptor"},
		"readable after writable": {func(g *virtiotest.Driver, q *virtiotest.Queue) {
			g.Describe(q.Desc, 0, virtiotest.Desc(virtiotest.GuestBase, 44, virtiotest.DescWrite|virtiotest.DescNext, 1))
			g.Describe(q.Desc, 1, virtiotest.Desc(virtiotest.GuestBase, 44, 0, 0))
			q.Offer(0)
		}, "after a writable"},
		"nested indirect": {func(g *virtiotest.Driver, q *virtiotest.Queue) {
			o := g.Alloc(64)
			g.Describe(o, 0, virtiotest.Desc(virtiotest.GuestBase+o, 16, virtiotest.DescIndirect, 0))
			g.Describe(q.Desc, 0, virtiotest.Desc(virtiotest.GuestBase+o, 16, virtiotest.DescIndirect, 0))
			q.Offer(0)
		}, "indirect"},
		"indirect with next": {func(g *virtiotest.Driver, q *virtiotest.Queue) {
			g.Describe(q.Desc, 0, virtiotest.Desc(virtiotest.GuestBase, 16, virtiotest.DescIndirect|virtiotest.DescNext, 1))
			q.Offer(0)
		}, "indirect"},
		"indirect of odd size": {func(g *virtiotest.Driver, q *virtiotest.Queue) {
			g.Describe(q.Desc, 0, virtiotest.Desc(virtiotest.GuestBase, 17, virtiotest.DescIndirect, 0))
			q.Offer(0)
		}, "indirect"},
		"indirect too large": {func(g *virtiotest.Driver, q *virtiotest.Queue) {
			g.Describe(q.Desc, 0, virtiotest.Desc(virtiotest.GuestBase, 16*(maxTable+1), virtiotest.DescIndirect, 0))
			q.Offer(0)
		}, "indirect"},
		"indirect outside": {func(g *virtiotest.Driver, q *virtiotest.Queue) {
			g.Describe(q.Desc, 0, virtiotest.Desc(virtiotest.GuestBase+virtiotest.GuestSize-16, 32, virtiotest.DescIndirect, 0))
			q.Offer(0)
		}, "indirect"},
		"indirect next out of range": {func(g *virtiotest.Driver, q *virtiotest.Queue) {
			o := g.Alloc(64)
			g.Describe(o, 0, virtiotest.Desc(virtiotest.GuestBase, 44, virtiotest.DescNext, 1))
			g.Describe(q.Desc, 0, virtiotest.Desc(virtiotest.GuestBase+o, 16, virtiotest.DescIndirect, 0))
			q.Offer(0)
		}, "index out of range"},
		"indirect loop": {func(g *virtiotest.Driver, q *virtiotest.Queue) {
			o := g.Alloc(64)
			g.Describe(o, 0, virtiotest.Desc(virtiotest.GuestBase, 44, virtiotest.DescNext, 0))
			g.Describe(q.Desc, 0, virtiotest.Desc(virtiotest.GuestBase+o, 16, virtiotest.DescIndirect, 0))
			q.Offer(0)
		}, "chain too long"},
		"longer than 4 GiB": {func(g *virtiotest.Driver, q *virtiotest.Queue) {
			const n = maxTotal/virtiotest.GuestSize + 1
			o := g.Alloc(n * virtiotest.DescLen)
			for i := range n {
				g.Describe(o, i, virtiotest.Desc(virtiotest.GuestBase, virtiotest.GuestSize, virtiotest.DescNext, uint16(i+1)))
			}
			g.Describe(q.Desc, 0, virtiotest.Desc(virtiotest.GuestBase+o, n*virtiotest.DescLen, virtiotest.DescIndirect, 0))
			q.Offer(0)
		}, "too many bytes"},
		"the same twice": {func(g *virtiotest.Driver, q *virtiotest.Queue) {
			g.Describe(q.Desc, 0, virtiotest.Desc(virtiotest.GuestBase, 4, 0, 0))
			q.Offer(0, 0)
		}, "in use"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			d, g := boot(t, virtiotest.Config{Indirect: true}, func(_ int, c *Chain) {
				<-c.Gone() // so that it is under way
				c.Done(0)
			})
			c.do(g, g.Queue(1))
			ends(t, d, c.want)
		})
	}
	t.Run("indirect not negotiated", func(t *testing.T) {
		d, g := boot(t, virtiotest.Config{}, echo)
		g.Describe(g.Queue(1).Desc, 0, virtiotest.Desc(virtiotest.GuestBase, 16, virtiotest.DescIndirect, 0))
		g.Queue(1).Offer(0)
		ends(t, d, "indirect")
	})
}

// Where regions meet, a descriptor is several pieces of memory; a chain may not
// have any number of them.
func TestManyPieces(t *testing.T) {
	d, g := boot(t, virtiotest.Config{Indirect: true}, echo)
	const at, regions = 1 << 40, 8
	page := uint64(os.Getpagesize())
	extra := virtiotest.Memfd(t, int64(page))
	for i := range uint64(regions) {
		g.Do(virtiotest.AddMemReg, virtiotest.Words64(0, at+i*page, page, 1<<45+i*page, 0), extra)
	}
	const n = maxParts/regions + 1
	table := g.Alloc(n * virtiotest.DescLen)
	for i := range n {
		g.Describe(table, i, virtiotest.Desc(at, uint32(regions*page), virtiotest.DescNext, uint16(i+1)))
	}
	q := g.Queue(1)
	g.Describe(q.Desc, 0, virtiotest.Desc(virtiotest.GuestBase+table, n*virtiotest.DescLen, virtiotest.DescIndirect, 0))
	q.Offer(0)
	ends(t, d, "or pieces")
}
