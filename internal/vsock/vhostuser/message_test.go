//go:build linux

package vhostuser

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestHandshake(t *testing.T) {
	_, f := attach(t)
	u := func(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }
	if got := u(f.ask(reqGetFeatures, nil)); got != features {
		t.Errorf("features %#x", got)
	}
	f.handshake()
	if got := u(f.ask(reqGetQueueNum, nil)); got != 2 {
		t.Errorf("%d queues", got)
	}
	if got := u(f.ask(reqGetMaxMemSlots, nil)); got < 128 {
		t.Errorf("%d memory slots", got)
	}
	config := func(offset, size uint32) []byte {
		return f.ask(reqGetConfig, append(words32(offset, size, 0), make([]byte, size)...))
	}
	if got, want := config(0, 8), append(words32(0, 8, 0), words64(3)...); !bytes.Equal(got, want) {
		t.Errorf("config % x, want % x", got, want)
	}
	if got, want := config(4, 2), append(words32(4, 2, 0), 0, 0); !bytes.Equal(got, want) {
		t.Errorf("config % x, want % x", got, want)
	}
	if got := config(4, 8); len(got) != 0 {
		t.Errorf("config beyond the end: % x", got)
	}
	if got := config(0xffffffff, 2); len(got) != 0 {
		t.Errorf("config beyond the end: % x", got)
	}
}

// Messages that are understood but wrong are refused, and the device goes on.
func TestRefusedMessages(t *testing.T) {
	_, f := attach(t)
	f.handshake()
	f.addMemory()
	pipe, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	defer w.Close()
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	small := memfd(t, 4096)
	event := eventfd(t)
	const far = 1 << 46
	cases := []struct {
		name    string
		request uint32
		payload []byte
		files   []*os.File
	}{
		{"unknown request", 200, nil, nil},
		{"features not offered", reqSetFeatures, words64(1 << 33), nil},
		{"features too short", reqSetFeatures, words32(0), nil},
		{"protocol features not offered", reqSetProtocolFeatures, words64(1 << 1), nil},
		{"owner with payload", reqSetOwner, words64(0), nil},
		{"configuration is written", reqSetConfig, words32(0, 4, 0, 5), nil},
		{"ring 2", reqSetVringNum, words32(2, 8), nil},
		{"ring of size 0", reqSetVringNum, words32(0, 0), nil},
		{"ring of size 3", reqSetVringNum, words32(0, 3), nil},
		{"ring too large", reqSetVringNum, words32(0, 2048), nil},
		{"ring size with a file", reqSetVringNum, words32(0, 8), []*os.File{event}},
		{"base too large", reqSetVringBase, words32(0, 0x10000), nil},
		{"enable 2", reqSetVringEnable, words32(0, 2), nil},
		{"address before size", reqSetVringAddr, append(words32(0, 0), words64(userBase, userBase, userBase, 0)...), nil},
		{"address too short", reqSetVringAddr, words32(0, 0), nil},
		{"address of ring 9", reqSetVringAddr, append(words32(9, 0), words64(0, 0, 0, 0)...), nil},
		{"address with log", reqSetVringAddr, append(words32(1, 1), words64(0, 0, 0, 0)...), nil},
		{"kick without file", reqSetVringKick, words64(0), nil},
		{"kick by polling", reqSetVringKick, words64(0x100), nil},
		{"kick of ring 2", reqSetVringKick, words64(2), []*os.File{event}},
		{"kick that is a file", reqSetVringKick, words64(0), []*os.File{file}},
		{"kick that is no file and one", reqSetVringKick, words64(0x100), []*os.File{event}},
		{"call with reserved bits", reqSetVringCall, words64(0x200), []*os.File{event}},
		{"call with two files", reqSetVringCall, words64(0), []*os.File{event, event}},
		{"call too short", reqSetVringCall, words32(0), []*os.File{event}},
		{"region without file", reqAddMemReg, words64(0, far, 4096, far, 0), nil},
		{"region too short", reqAddMemReg, words64(0, far, 4096), []*os.File{small}},
		{"region of size 0", reqAddMemReg, words64(0, far, 0, far, 0), []*os.File{small}},
		{"region wraps", reqAddMemReg, words64(0, ^uint64(0)-4095, 4097, far, 0), []*os.File{small}},
		{"region's user address wraps", reqAddMemReg, words64(0, far, 4097, ^uint64(0)-4095, 0), []*os.File{small}},
		{"region's offset wraps", reqAddMemReg, words64(0, far, 4096, far, ^uint64(0)-4094), []*os.File{small}},
		{"region beyond its file", reqAddMemReg, words64(0, far, 4096, far, 1), []*os.File{small}},
		{"region huge", reqAddMemReg, words64(0, far, 1<<50, 1<<52, 0), []*os.File{small}},
		{"region of a pipe", reqAddMemReg, words64(0, far, 4096, far, 0), []*os.File{pipe}},
		{"region of a folder", reqAddMemReg, words64(0, far, 1, far, 0), []*os.File{dir}},
		{"region overlaps", reqAddMemReg, words64(0, guestBase+4096, 4096, far, 0), []*os.File{small}},
		{"region's user address overlaps", reqAddMemReg, words64(0, far, 4096, userBase+4096, 0), []*os.File{small}},
		{"removing no region", reqRemMemReg, words64(0, far, 4096, far, 0), nil},
		{"removing too short", reqRemMemReg, words64(0, far), nil},
		{"table empty", reqSetMemTable, words32(0, 0), nil},
		{"table without count", reqSetMemTable, nil, nil},
		{"table without regions", reqSetMemTable, words32(1, 0), []*os.File{small}},
		{"table without files", reqSetMemTable, append(words32(1, 0), words64(far, 4096, far, 0)...), nil},
		{"table of a million", reqSetMemTable, append(words32(1e6, 0), words64(far, 4096, far, 0)...), []*os.File{small}},
		{"table overlaps itself", reqSetMemTable, append(words32(2, 0), words64(far, 4096, far, 0, far, 4096, far, 0)...), []*os.File{small, small}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if err := f.try(c.request, c.payload, c.files...); err != errRefused {
				t.Fatalf("got %v, want a refusal", err)
			}
		})
	}
	// Nothing of it has stuck: the device can still be brought up.
	g := newGuest(f, guestConfig{})
	g.start()
	t.Run("running", func(t *testing.T) {
		for _, r := range []uint32{reqSetVringNum, reqSetVringBase} {
			if err := f.try(r, words32(0, 8)); err != errRefused {
				t.Errorf("request %d while running: got %v, want a refusal", r, err)
			}
		}
	})
	f.sock.Close()
	g.rx.call.Close()
	g.wg.Wait()
}

// Without REPLY_ACK nothing can be refused: the device ends.
func TestFatalMessages(t *testing.T) {
	raw := func(b []byte) func(f *frontend) {
		return func(f *frontend) { f.sock.Write(b) }
	}
	event := eventfd(t)
	for name, c := range map[string]struct {
		do   func(f *frontend)
		want string
	}{
		"version 0":     {raw(words32(1, 0, 0)), "flags"},
		"version 2":     {raw(words32(1, 2, 0)), "flags"},
		"a reply":       {raw(words32(1, msgVersion|msgReply, 0)), "flags"},
		"too large":     {raw(words32(1, msgVersion, maxPayload+1)), "513 bytes"},
		"no request":    {raw(words32(0, msgVersion, 0)), "unknown request"},
		"bad ring":      {raw(append(words32(reqGetVringBase, msgVersion, 8), words32(7, 0)...)), "no ring 7"},
		"config":        {raw(append(words32(reqGetConfig, msgVersion, 12), words32(0, 8, 0)...)), "malformed"},
		"in the header": {func(f *frontend) { f.sock.Write(words32(1)); f.sock.Close() }, "EOF"},
		"in the body":   {func(f *frontend) { f.sock.Write(words32(2, msgVersion, 8, 0)); f.sock.Close() }, "EOF"},
		"many files": {func(f *frontend) {
			var files []*os.File
			for range 2 * maxFDs {
				files = append(files, event)
			}
			f.send(reqSetOwner, msgVersion, nil, files...)
		}, "too many descriptors"},
		"files in pieces": {func(f *frontend) {
			rights := unix.UnixRights(int(f.fd.Fd()), int(f.fd.Fd()), int(f.fd.Fd()), int(f.fd.Fd()), int(f.fd.Fd()))
			h := words32(reqSetOwner, msgVersion, 0)
			f.sock.WriteMsgUnix(h[:4], rights, nil)
			f.sock.WriteMsgUnix(h[4:], rights, nil)
		}, "descriptors"},
	} {
		t.Run(name, func(t *testing.T) {
			d, f := attach(t)
			c.do(f)
			ends(t, d, c.want)
		})
	}
}

func TestSlowMessage(t *testing.T) {
	_, f := attach(t)
	for _, b := range words32(reqGetQueueNum, msgVersion, 0) {
		f.sock.Write([]byte{b})
	}
	if p, err := f.receive(reqGetQueueNum); err != nil || len(p) != 8 {
		t.Error(p, err)
	}
}

// A front end without protocol features has its rings enabled from the start.
func TestOldFrontEnd(t *testing.T) {
	d, f := attach(t)
	g := newGuest(f, guestConfig{})
	f.send(reqSetFeatures, msgVersion, words64(featVersion1))
	f.send(reqSetMemTable, msgVersion, append(words32(1, 0), words64(guestBase, guestSize, userBase, 0)...), f.fd)
	for _, q := range []*queue{g.rx, g.tx} {
		f.send(reqSetVringNum, msgVersion, words32(q.index, uint32(q.num)))
		f.send(reqSetVringAddr, msgVersion, append(words32(q.index, 0), words64(userBase+q.desc, userBase+q.used, userBase+q.avail, 0)...))
		f.send(reqSetVringCall, msgVersion, words64(uint64(q.index)), q.call)
		f.send(reqSetVringKick, msgVersion, words64(uint64(q.index)), q.kick)
	}
	for i := range g.txSlots {
		g.txFree = append(g.txFree, i)
	}
	for i := range g.rxSlots {
		g.rx.offer(g.rxSlots[i].head)
	}
	g.wg.Go(g.receiveLoop)
	c, s := dialed(t, d, g, 4)
	go s.Write([]byte("old"))
	if _, err := io.ReadFull(c, make([]byte, 3)); err != nil {
		t.Error(err)
	}
	f.send(reqResetOwner, msgVersion, nil)
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want ECONNRESET", err)
	}
	d.Close()
	g.rx.call.Close()
	g.wg.Wait()
}

func TestMisalignedRing(t *testing.T) {
	_, f := attach(t)
	f.handshake()
	f.addMemory()
	f.do(reqSetVringNum, words32(0, 8))
	for _, o := range [][3]uint64{{8, 4096, 8192}, {0, 4097, 8192}, {0, 4096, 8193}} {
		a := append(words32(0, 0), words64(userBase+o[0], userBase+o[1], userBase+o[2], 0)...)
		if err := f.try(reqSetVringAddr, a); err != errRefused {
			t.Errorf("%v: got %v, want a refusal", o, err)
		}
	}
}
