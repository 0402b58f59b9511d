package virtiofs

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/hostfs"
)

// FuzzRequest sends requests, each op[1] node[1] room[1] length[1] and as many
// bytes of arguments. Whatever they are, the server goes on, its tables are as
// they should be, and nothing but the one share that can be written has changed.
func FuzzRequest(f *testing.F) {
	add := func(requests ...[]byte) {
		var all []byte
		for _, r := range requests {
			all = append(all, r...)
		}
		f.Add(all)
	}
	request := func(op, node uint8, args ...any) []byte {
		b := ints(args...)
		return append([]byte{op, node, 255, byte(len(b))}, b...)
	}
	// Nodes 2 and 3 are the shares, 4 is the first that is looked up.
	look, open := request(opLookup, 2, "a"), request(opOpen, 4, uint64(2))
	add(look, request(opGetattr, 4, uint64(0), uint64(0)), request(opForget, 4, uint64(1)))
	add(look, open, request(opRead, 4, readIn(1, 0, 100)), request(opWrite, 4, writeIn(1, 0, "data", 0, 0)), request(opRelease, 4, uint64(1), uint64(0), uint64(0)))
	add(request(opCreate, 2, uint64(2), uint64(0), "new"), request(opUnlink, 2, "new"), request(opFlush, 4, uint64(1), uint64(0), uint64(0)))
	add(request(opMkdir, 2, uint64(0o755), "dir"), request(opRename, 2, uint64(4), "a", "b"), request(opRename2, 4, uint64(2), uint64(2), "b", "dir"))
	add(request(opSymlink, 2, "l", "/etc"), request(opReadlink, 4), request(opLink, 2, uint64(4), "m"), request(opMknod, 2, uint64(0o644), uint64(0), "n"))
	add(request(opOpendir, 2, uint64(0)), request(opReaddir, 2, readIn(1, 0, 255)), request(opReleasedir, 2, uint64(1), uint64(0), uint64(0)))
	add(request(opLookup, 3, "a"), request(opOpen, 4, uint64(0x200)), request(opSetattr, 4, make([]byte, 88)), request(opUnlink, 3, "a"))
	add(look, open, request(opSetlkw, 4, uint64(1), uint64(1), uint64(0), uint64(9), uint64(1), uint64(0)), request(opInit, 0, initIn(7, 37, 0)))
	add(look, request(opSetxattr, 4, uint32(1), uint32(0), "user.x", []byte("v")), request(opGetxattr, 4, uint64(100), "user.x"), request(opListxattr, 4, uint64(0)))
	add(look, open, request(opSetlk, 4, lockArgs(1, 1, 0, 5, wr)), request(opSetlkw, 4, lockArgs(1, 2, 2, 0, rd)), request(opGetlk, 4, lockArgs(1, 3, 4, 1, wr)),
		request(opSetlk, 4, lockArgs(1, 1, 1, 2, un)), request(opFlush, 4, uint64(1), uint64(0), uint64(1)), request(opRelease, 4, uint64(1), uint64(0), uint64(0)))
	add(look, open, open, request(opSetlk, 4, flockArgs(1, rd)), request(opSetlkw, 4, flockArgs(2, wr)), request(opSetlkw, 4, flockArgs(1, un)), request(opDestroy, 0))
	add(look, request(opSetxattr, 4, uint32(len(aclFor)), uint32(0), "system.posix_acl_access", []byte(aclFor)), request(opRemovexattr, 4, "user.x"))
	add(look, open, request(opLseek, 4, uint64(1), uint64(0), uint64(unix.SEEK_HOLE)), request(opCopyFileRange, 4, uint64(1), uint64(0), uint64(4), uint64(1), uint64(9), uint64(4), uint64(0)))
	add(request(opLookup, 1, "rw"), request(opReaddir, 1, readIn(0, 0, 255)), request(opBatchForget, 0, uint32(1), uint32(0), uint64(2), uint64(9)), request(opDestroy, 0))

	f.Fuzz(func(t *testing.T, script []byte) {
		outside, ro, rw := folder(t, "a", "text"), folder(t, "a", "text", "d/b", ""), folder(t, "a", "text", "d/b", "")
		if err := os.Symlink(outside, filepath.Join(rw, "out")); err != nil {
			t.Fatal(err)
		}
		g := newGuest(t, Config{MaxNodes: 16, MaxOpen: 3, MaxHandles: 5},
			hostfs.Share{Name: "rw", Path: rw}, hostfs.Share{Name: "ro", Path: ro, ReadOnly: true})
		for len(script) >= 4 {
			op, node, room, n := uint32(script[0]), uint64(script[1]), int(script[2]), int(script[3])
			script = script[4:]
			args := script[:min(n, len(script))]
			script = script[len(args):]
			if op == opSyncfs || op == opFallocate { // of the host's disk, and its room
				continue
			}
			fuzzOne(t, g, op, node, room, args)
		}
		g.counts()
		for _, dir := range []string{outside, ro} {
			path := filepath.Join(dir, "a")
			if b, err := os.ReadFile(path); string(b) != "text" || err != nil {
				t.Errorf("%s is %q, %v", path, b, err)
			}
			if entries, err := os.ReadDir(dir); len(entries) > 2 || err != nil {
				t.Errorf("%s has %v, %v", dir, entries, err)
			}
		}
	})
}

func fuzzOne(t *testing.T, g *guest, op uint32, node uint64, room int, args []byte) {
	in := g.message(op, node, args)
	// An odd room takes the length from the request.
	if room%2 == 1 && len(args) > 4 {
		copy(in, args[:4])
	}
	out := make([]byte, room*8)
	done := g.post([][]byte{in}, [][]byte{out})
	if op == opSetlkw { // it may wait until the server ends
		return
	}
	a := <-done
	switch {
	case a.err != nil && room*8 >= outHeaderSize:
		t.Fatalf("opcode %d: %v", op, a.err)
	case a.err != nil || op == opForget || op == opBatchForget:
		return
	}
	b := out[:a.n]
	if a.n < outHeaderSize || int(binary.LittleEndian.Uint32(b)) != a.n {
		t.Fatalf("opcode %d: answer %x", op, b)
	}
	if errno := int32(binary.LittleEndian.Uint32(b[4:])); errno > 0 || errno <= -512 || errno < 0 && a.n > outHeaderSize {
		t.Fatalf("opcode %d: error %d (%v) and %d bytes", op, errno, unix.Errno(-errno), a.n)
	}
}
