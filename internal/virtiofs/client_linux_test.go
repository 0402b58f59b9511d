package virtiofs

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/hostfs"
	"github.com/byrevm/byre/internal/virtio"
)

// A guest is a driver that sends requests by chains of no ring.
type guest struct {
	t      testing.TB
	s      *Server
	uid    uint32
	unique atomic.Uint64
}

func newGuest(t testing.TB, c Config, shares ...hostfs.Share) *guest {
	t.Helper()
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	g := &guest{t: t, s: newServer(c)}
	t.Cleanup(func() {
		if err := g.s.Close(); err != nil {
			t.Error(err)
		}
		if n := g.s.config.Files.Held(); n != 0 {
			t.Errorf("%d descriptors are left", n)
		}
	})
	for _, sh := range shares {
		if err := g.s.Add(sh); err != nil {
			t.Fatal(err)
		}
	}
	g.init()
	return g
}

func (g *guest) init() {
	g.t.Helper()
	if _, err := g.call(opInit, 0, initIn(7, 37, 1<<30-1)); err != nil {
		g.t.Fatal("INIT:", err)
	}
}

func initIn(major, minor, flags uint32) []byte {
	return ints(major, minor, uint32(1<<17), flags, make([]byte, 48))
}

// ints puts members of a request, of 4 or 8 bytes, strings with a NUL, and bytes,
// one behind the other.
func ints(v ...any) []byte {
	var b []byte
	for _, v := range v {
		switch v := v.(type) {
		case uint32:
			b = binary.LittleEndian.AppendUint32(b, v)
		case uint64:
			b = binary.LittleEndian.AppendUint64(b, v)
		case string:
			b = append(append(b, v...), 0)
		case []byte:
			b = append(b, v...)
		default:
			panic("neither")
		}
	}
	return b
}

// message puts a header before the members.
func (g *guest) message(op uint32, node uint64, args []byte) []byte {
	return append(ints(uint32(inHeaderSize+len(args)), op, g.unique.Add(1), node, g.uid, g.uid, uint32(1), uint32(0)), args...)
}

// roomy is enough for any answer without data.
const roomy = 4608

// call sends a request and returns the answer without its header.
func (g *guest) call(op uint32, node uint64, args ...any) ([]byte, error) {
	g.t.Helper()
	return g.callFor(roomy, op, node, ints(args...))
}

// callFor is call with so much room for the answer.
func (g *guest) callFor(room int, op uint32, node uint64, args []byte) ([]byte, error) {
	g.t.Helper()
	in := g.message(op, node, args)
	// In pieces that begin and end anywhere.
	head, rest := in[:inHeaderSize], in[inHeaderSize:]
	out := make([]byte, outHeaderSize+room)
	mid := min(33, len(out))
	b, err := g.send([][]byte{head, rest[:len(rest)/3], rest[len(rest)/3:]}, [][]byte{out[:10], out[10:mid], out[mid:]}, out)
	if err != nil {
		g.t.Fatalf("opcode %d: the device failed: %v", op, err)
	}
	return decodeAnswer(g.t, in, b)
}

func decodeAnswer(t testing.TB, in, b []byte) ([]byte, error) {
	t.Helper()
	d := decoder{b: b}
	n, errno, unique := d.u32(), int32(d.u32()), d.u64()
	switch {
	case d.bad || int(n) != len(b):
		t.Fatalf("answer of %d bytes says %d", len(b), n)
	case unique != binary.LittleEndian.Uint64(in[8:]):
		t.Fatalf("answer %d to request %d", unique, binary.LittleEndian.Uint64(in[8:]))
	case errno != 0 && len(d.b) > 0:
		t.Fatalf("%d bytes with an error", len(d.b))
	case errno > 0 || errno < -511:
		t.Fatalf("error %d", errno)
	case errno != 0:
		return nil, unix.Errno(-errno)
	}
	return d.b, nil
}

// send puts a chain into no ring and waits for its end. all is the memory of out.
func (g *guest) send(in, out [][]byte, all []byte) ([]byte, error) {
	done := g.post(in, out)
	a := <-done
	if a.err != nil {
		return nil, a.err
	}
	return all[:a.n], nil
}

type ending struct {
	n   int
	err error
}

func (g *guest) post(in, out [][]byte) <-chan ending {
	done := make(chan ending, 1)
	c := virtio.NewChain(in, out, func(n int, err error) { done <- ending{n, err} })
	g.s.serve(1, c)
	return done
}

// tell sends a request that has no answer.
func (g *guest) tell(op uint32, node uint64, args ...any) {
	g.t.Helper()
	if b, err := g.send([][]byte{g.message(op, node, ints(args...))}, nil, nil); len(b) > 0 || err != nil {
		g.t.Fatalf("opcode %d: %x, %v", op, b, err)
	}
}

func (g *guest) must(b []byte, err error) *decoder {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
	return &decoder{b: b}
}

func wantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if err != want {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

// An entry is what the guest is told of a file.
type entry struct {
	node                  uint64
	entryValid, attrValid uint32
	attr
}

type attr struct {
	ino, size, blocks    uint64
	asec, msec, csec     uint64
	ansec, mnsec, cnsec  uint32
	mode, nlink          uint32
	uid, gid             uint32
	rdev, blksize, flags uint32
}

func (d *decoder) entry() entry {
	e := entry{node: d.u64()}
	d.bytes(24)
	e.entryValid, e.attrValid = d.u32(), d.u32()
	e.attr = d.attr()
	return e
}

func (d *decoder) attr() attr {
	return attr{
		d.u64(), d.u64(), d.u64(), d.u64(), d.u64(), d.u64(), d.u32(), d.u32(), d.u32(),
		d.u32(), d.u32(), d.u32(), d.u32(), d.u32(), d.u32(), d.u32(),
	}
}

// made returns the entry that a whole answer is.
func (g *guest) made(b []byte, err error) entry {
	g.t.Helper()
	d := g.must(b, err)
	e := d.entry()
	if !d.done() {
		g.t.Fatalf("an entry of %d bytes", len(b))
	}
	return e
}

func (g *guest) lookup(dir uint64, name string) entry {
	g.t.Helper()
	return g.made(g.call(opLookup, dir, name))
}

// walk looks names up from the root.
func (g *guest) walk(names ...string) (e entry) {
	g.t.Helper()
	e.node = rootID
	for _, name := range names {
		e = g.lookup(e.node, name)
	}
	return e
}

func (g *guest) getattr(node uint64) (attr, error) {
	g.t.Helper()
	b, err := g.call(opGetattr, node, uint32(0), uint32(0), uint64(0))
	if err != nil {
		return attr{}, err
	}
	d := decoder{b: b}
	d.bytes(16)
	a := d.attr()
	if !d.done() {
		g.t.Fatalf("attributes of %d bytes", len(b))
	}
	return a, nil
}

func (g *guest) open(node uint64, flags int) uint64 {
	g.t.Helper()
	return g.must(g.call(opOpen, node, uint32(flags), uint32(0))).u64()
}

func (g *guest) opendir(node uint64) uint64 {
	g.t.Helper()
	return g.must(g.call(opOpendir, node, uint32(0), uint32(0))).u64()
}

func (g *guest) create(dir uint64, name string, flags int, mode uint32) (entry, uint64) {
	g.t.Helper()
	d := g.must(g.call(opCreate, dir, uint32(flags), mode, uint32(0), uint32(0), name))
	return d.entry(), d.u64()
}

func (g *guest) close(node, fh uint64) {
	g.t.Helper()
	g.must(g.call(opRelease, node, fh, uint32(0), uint32(0), uint64(0)))
}

func readIn(fh, off uint64, size int) []byte {
	return ints(fh, off, uint32(size), uint32(0), uint64(0), uint32(0), uint32(0))
}

func (g *guest) read(node, fh, off uint64, size int) (string, error) {
	g.t.Helper()
	b, err := g.callFor(size, opRead, node, readIn(fh, off, size))
	return string(b), err
}

func writeIn(fh, off uint64, data string, how, flags uint32) []byte {
	return ints(fh, off, uint32(len(data)), how, uint64(0), flags, uint32(0), []byte(data))
}

func (g *guest) write(node, fh, off uint64, data string) (int, error) {
	g.t.Helper()
	b, err := g.call(opWrite, node, writeIn(fh, off, data, 0, 0))
	if err != nil {
		return 0, err
	}
	return int(binary.LittleEndian.Uint32(b)), nil
}

// names reads a folder whole, so many bytes at a time.
func (g *guest) names(node, fh uint64, size int) (names []string) {
	g.t.Helper()
	for off := uint64(0); ; {
		b := g.must(g.callFor(size, opReaddir, node, readIn(fh, off, size))).b
		if len(b) == 0 {
			return names
		}
		for d := (decoder{b: b}); len(d.b) > 0; {
			_ = d.u64()
			off = d.u64()
			n, _ := int(d.u32()), d.u32()
			names = append(names, string(d.bytes(n)))
			if pad := d.bytes(-n & 7); d.bad || !bytes.Equal(pad, make([]byte, len(pad))) {
				g.t.Fatalf("entries are %x", b)
			}
		}
	}
}

// folder makes a folder with files, whose names and contents are given.
func folder(t testing.TB, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		path := filepath.Join(dir, files[i])
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(files[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// openBeneath returns what this process has open of a folder.
func openBeneath(t testing.TB, dir string) (paths []string) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		path, _ := os.Readlink("/proc/self/fd/" + fd.Name()) // some are closed by now
		if path == dir || strings.HasPrefix(path, dir+"/") {
			paths = append(paths, path)
		}
	}
	return paths
}
