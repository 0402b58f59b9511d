package virtiofs

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/virtio"
)

// BenchmarkRequests is the server without a ring: what each request costs beyond
// the way there and back.
func BenchmarkRequests(b *testing.B) {
	g := newGuest(b, Config{}, source(b, "a", string(make([]byte, 1<<20))))
	src, a := g.walk("src"), g.walk("src", "a")
	fh := g.open(a.node, unix.O_RDWR)
	for _, bb := range []struct {
		name string
		op   uint32
		node uint64
		args []byte
		room int
	}{
		{"lookup", opLookup, src.node, ints("a"), 200},
		{"getattr", opGetattr, a.node, make([]byte, 16), 200},
		{"read4k", opRead, a.node, readIn(fh, 0, 4096), 4096},
		{"read1M", opRead, a.node, readIn(fh, 0, 1<<20), 1 << 20},
		{"write4k", opWrite, a.node, writeIn(fh, 0, string(make([]byte, 4096)), 0, 0), 100},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			in, out := g.message(bb.op, bb.node, bb.args), make([]byte, outHeaderSize+bb.room)
			done := func(n int, err error) {
				if err != nil || out[4] != 0 {
					b.Error(fmt.Errorf("answer %x, %w", out[:n], err))
				}
			}
			for b.Loop() {
				g.s.serve(1, virtio.NewChain([][]byte{in}, [][]byte{out}, done))
			}
		})
	}
}
