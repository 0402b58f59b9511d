//go:build linux

package virtio

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/virtio/virtiotest"
)

func TestHandshake(t *testing.T) {
	_, f := attach(t, virtiotest.Config{}, echo)
	u := func(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }
	if got := u(f.Ask(virtiotest.GetFeatures, nil)); got != ringFeatures|1<<5 {
		t.Errorf("features %#x", got)
	}
	f.Handshake()
	if got := u(f.Ask(virtiotest.GetQueueNum, nil)); got != 2 {
		t.Errorf("%d queues", got)
	}
	if got := u(f.Ask(virtiotest.GetMaxMemSlots, nil)); got < 128 {
		t.Errorf("%d memory slots", got)
	}
	if got := u(f.Ask(virtiotest.GetProtocolFeatures, nil)); got != protoAlways|protoConfig {
		t.Errorf("protocol features %#x", got)
	}
	config := func(offset, size uint32) []byte {
		return f.Ask(virtiotest.GetConfig, append(virtiotest.Words32(offset, size, 0), make([]byte, size)...))
	}
	if got, want := config(0, 8), append(virtiotest.Words32(0, 8, 0), virtiotest.Words64(3)...); !bytes.Equal(got, want) {
		t.Errorf("config % x, want % x", got, want)
	}
	if got, want := config(4, 2), append(virtiotest.Words32(4, 2, 0), 0, 0); !bytes.Equal(got, want) {
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
	_, f := attach(t, virtiotest.Config{}, echo)
	f.Handshake()
	f.AddMemory()
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
	small := virtiotest.Memfd(t, 4096)
	event := virtiotest.Eventfd(t)
	const far = 1 << 46
	cases := []struct {
		name    string
		request uint32
		payload []byte
		files   []*os.File
	}{
		{"unknown request", 200, nil, nil},
		{"features not offered", virtiotest.SetFeatures, virtiotest.Words64(1 << 33), nil},
		{"features too short", virtiotest.SetFeatures, virtiotest.Words32(0), nil},
		{"protocol features not offered", virtiotest.SetProtocolFeatures, virtiotest.Words64(1 << 1), nil},
		{"owner with payload", virtiotest.SetOwner, virtiotest.Words64(0), nil},
		{"configuration is written", virtiotest.SetConfig, virtiotest.Words32(0, 4, 0, 5), nil},
		{"ring 2", virtiotest.SetVringNum, virtiotest.Words32(2, 8), nil},
		{"ring of size 0", virtiotest.SetVringNum, virtiotest.Words32(0, 0), nil},
		{"ring of size 3", virtiotest.SetVringNum, virtiotest.Words32(0, 3), nil},
		{"ring too large", virtiotest.SetVringNum, virtiotest.Words32(0, 2048), nil},
		{"ring size with a file", virtiotest.SetVringNum, virtiotest.Words32(0, 8), []*os.File{event}},
		{"base too large", virtiotest.SetVringBase, virtiotest.Words32(0, 0x10000), nil},
		{"enable 2", virtiotest.SetVringEnable, virtiotest.Words32(0, 2), nil},
		{"address before size", virtiotest.SetVringAddr, append(virtiotest.Words32(0, 0), virtiotest.Words64(virtiotest.UserBase, virtiotest.UserBase, virtiotest.UserBase, 0)...), nil},
		{"address too short", virtiotest.SetVringAddr, virtiotest.Words32(0, 0), nil},
		{"address of ring 9", virtiotest.SetVringAddr, append(virtiotest.Words32(9, 0), virtiotest.Words64(0, 0, 0, 0)...), nil},
		{"address with log", virtiotest.SetVringAddr, append(virtiotest.Words32(1, 1), virtiotest.Words64(0, 0, 0, 0)...), nil},
		{"kick without file", virtiotest.SetVringKick, virtiotest.Words64(0), nil},
		{"kick by polling", virtiotest.SetVringKick, virtiotest.Words64(0x100), nil},
		{"kick of ring 2", virtiotest.SetVringKick, virtiotest.Words64(2), []*os.File{event}},
		{"kick that is a file", virtiotest.SetVringKick, virtiotest.Words64(0), []*os.File{file}},
		{"kick that is no file and one", virtiotest.SetVringKick, virtiotest.Words64(0x100), []*os.File{event}},
		{"call with reserved bits", virtiotest.SetVringCall, virtiotest.Words64(0x200), []*os.File{event}},
		{"call with two files", virtiotest.SetVringCall, virtiotest.Words64(0), []*os.File{event, event}},
		{"call too short", virtiotest.SetVringCall, virtiotest.Words32(0), []*os.File{event}},
		{"region without file", virtiotest.AddMemReg, virtiotest.Words64(0, far, 4096, far, 0), nil},
		{"region too short", virtiotest.AddMemReg, virtiotest.Words64(0, far, 4096), []*os.File{small}},
		{"region of size 0", virtiotest.AddMemReg, virtiotest.Words64(0, far, 0, far, 0), []*os.File{small}},
		{"region wraps", virtiotest.AddMemReg, virtiotest.Words64(0, ^uint64(0)-4095, 4097, far, 0), []*os.File{small}},
		{"region's user address wraps", virtiotest.AddMemReg, virtiotest.Words64(0, far, 4097, ^uint64(0)-4095, 0), []*os.File{small}},
		{"region's offset wraps", virtiotest.AddMemReg, virtiotest.Words64(0, far, 4096, far, ^uint64(0)-4094), []*os.File{small}},
		{"region beyond its file", virtiotest.AddMemReg, virtiotest.Words64(0, far, 4096, far, 1), []*os.File{small}},
		{"region huge", virtiotest.AddMemReg, virtiotest.Words64(0, far, 1<<50, 1<<52, 0), []*os.File{small}},
		{"region of a pipe", virtiotest.AddMemReg, virtiotest.Words64(0, far, 4096, far, 0), []*os.File{pipe}},
		{"region of a folder", virtiotest.AddMemReg, virtiotest.Words64(0, far, 1, far, 0), []*os.File{dir}},
		{"region overlaps", virtiotest.AddMemReg, virtiotest.Words64(0, virtiotest.GuestBase+4096, 4096, far, 0), []*os.File{small}},
		{"region's user address overlaps", virtiotest.AddMemReg, virtiotest.Words64(0, far, 4096, virtiotest.UserBase+4096, 0), []*os.File{small}},
		{"removing no region", virtiotest.RemMemReg, virtiotest.Words64(0, far, 4096, far, 0), nil},
		{"removing too short", virtiotest.RemMemReg, virtiotest.Words64(0, far), nil},
		{"table empty", virtiotest.SetMemTable, virtiotest.Words32(0, 0), nil},
		{"table without count", virtiotest.SetMemTable, nil, nil},
		{"table without regions", virtiotest.SetMemTable, virtiotest.Words32(1, 0), []*os.File{small}},
		{"table without files", virtiotest.SetMemTable, append(virtiotest.Words32(1, 0), virtiotest.Words64(far, 4096, far, 0)...), nil},
		{"table of a million", virtiotest.SetMemTable, append(virtiotest.Words32(1e6, 0), virtiotest.Words64(far, 4096, far, 0)...), []*os.File{small}},
		{"table overlaps itself", virtiotest.SetMemTable, append(virtiotest.Words32(2, 0), virtiotest.Words64(far, 4096, far, 0, far, 4096, far, 0)...), []*os.File{small, small}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if err := f.Try(c.request, c.payload, c.files...); err != virtiotest.ErrRefused {
				t.Fatalf("got %v, want a refusal", err)
			}
		})
	}
	// Nothing of it has stuck: the device can still be brought up.
	f.Start()
	if got := f.Submit(1, []byte("fine"), 4); string(got) != "fine" {
		t.Errorf("got %q", got)
	}
	t.Run("running", func(t *testing.T) {
		for _, r := range []uint32{virtiotest.SetVringNum, virtiotest.SetVringBase} {
			if err := f.Try(r, virtiotest.Words32(0, 8)); err != virtiotest.ErrRefused {
				t.Errorf("request %d while running: got %v, want a refusal", r, err)
			}
		}
	})
}

// Without REPLY_ACK nothing can be refused: the device ends.
func TestFatalMessages(t *testing.T) {
	raw := func(b []byte) func(f *virtiotest.Driver) {
		return func(f *virtiotest.Driver) { f.Sock.Write(b) }
	}
	event := virtiotest.Eventfd(t)
	for name, c := range map[string]struct {
		do   func(f *virtiotest.Driver)
		want string
	}{
		"version 0":     {raw(virtiotest.Words32(1, 0, 0)), "flags"},
		"version 2":     {raw(virtiotest.Words32(1, 2, 0)), "flags"},
		"a reply":       {raw(virtiotest.Words32(1, virtiotest.Version|virtiotest.Reply, 0)), "flags"},
		"too large":     {raw(virtiotest.Words32(1, virtiotest.Version, maxPayload+1)), "513 bytes"},
		"no request":    {raw(virtiotest.Words32(0, virtiotest.Version, 0)), "unknown request"},
		"bad ring":      {raw(append(virtiotest.Words32(virtiotest.GetVringBase, virtiotest.Version, 8), virtiotest.Words32(7, 0)...)), "no ring 7"},
		"config":        {raw(append(virtiotest.Words32(virtiotest.GetConfig, virtiotest.Version, 12), virtiotest.Words32(0, 8, 0)...)), "malformed"},
		"in the header": {func(f *virtiotest.Driver) { f.Sock.Write(virtiotest.Words32(1)); f.Sock.Close() }, "EOF"},
		"in the body": {func(f *virtiotest.Driver) {
			f.Sock.Write(virtiotest.Words32(2, virtiotest.Version, 8, 0))
			f.Sock.Close()
		}, "EOF"},
		"many files": {func(f *virtiotest.Driver) {
			var files []*os.File
			for range 2 * maxFDs {
				files = append(files, event)
			}
			f.Send(virtiotest.SetOwner, virtiotest.Version, nil, files...)
		}, "too many descriptors"},
		"files in pieces": {func(f *virtiotest.Driver) {
			rights := unix.UnixRights(int(f.FD.Fd()), int(f.FD.Fd()), int(f.FD.Fd()), int(f.FD.Fd()), int(f.FD.Fd()))
			h := virtiotest.Words32(virtiotest.SetOwner, virtiotest.Version, 0)
			f.Sock.WriteMsgUnix(h[:4], rights, nil)
			f.Sock.WriteMsgUnix(h[4:], rights, nil)
		}, "descriptors"},
	} {
		t.Run(name, func(t *testing.T) {
			d, f := attach(t, virtiotest.Config{}, echo)
			c.do(f)
			ends(t, d, c.want)
		})
	}
}

func TestSlowMessage(t *testing.T) {
	_, f := attach(t, virtiotest.Config{}, echo)
	for _, b := range virtiotest.Words32(virtiotest.GetQueueNum, virtiotest.Version, 0) {
		f.Sock.Write([]byte{b})
	}
	if p, err := f.Receive(virtiotest.GetQueueNum); err != nil || len(p) != 8 {
		t.Error(p, err)
	}
}

// A front end without protocol features has its rings enabled from the start.
func TestOldFrontEnd(t *testing.T) {
	d, f := attach(t, virtiotest.Config{}, echo)
	f.Send(virtiotest.SetFeatures, virtiotest.Version, virtiotest.Words64(virtiotest.FeatVersion1))
	f.Send(virtiotest.SetMemTable, virtiotest.Version, append(virtiotest.Words32(1, 0), virtiotest.Words64(virtiotest.GuestBase, virtiotest.GuestSize, virtiotest.UserBase, 0)...), f.FD)
	for i := range 2 {
		q := f.Queue(i)
		f.Send(virtiotest.SetVringNum, virtiotest.Version, virtiotest.Words32(q.Index, uint32(q.Num)))
		f.Send(virtiotest.SetVringAddr, virtiotest.Version, append(virtiotest.Words32(q.Index, 0), virtiotest.Words64(virtiotest.UserBase+q.Desc, virtiotest.UserBase+q.Used, virtiotest.UserBase+q.Avail, 0)...))
		f.Send(virtiotest.SetVringCall, virtiotest.Version, virtiotest.Words64(uint64(q.Index)), q.Call)
		f.Send(virtiotest.SetVringKick, virtiotest.Version, virtiotest.Words64(uint64(q.Index)), q.Kick)
	}
	f.Collect()
	if got := f.Submit(1, []byte("old"), 3); string(got) != "old" {
		t.Errorf("got %q", got)
	}
	f.Send(virtiotest.ResetOwner, virtiotest.Version, nil)
	f.Sock.Close()
	ends(t, d, "EOF")
}

func TestMisalignedRing(t *testing.T) {
	_, f := attach(t, virtiotest.Config{}, echo)
	f.Handshake()
	f.AddMemory()
	f.Do(virtiotest.SetVringNum, virtiotest.Words32(0, 8))
	for _, o := range [][3]uint64{{8, 4096, 8192}, {0, 4097, 8192}, {0, 4096, 8193}} {
		a := append(virtiotest.Words32(0, 0), virtiotest.Words64(virtiotest.UserBase+o[0], virtiotest.UserBase+o[1], virtiotest.UserBase+o[2], 0)...)
		if err := f.Try(virtiotest.SetVringAddr, a); err != virtiotest.ErrRefused {
			t.Errorf("%v: got %v, want a refusal", o, err)
		}
	}
}
