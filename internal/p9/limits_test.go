//go:build linux

package p9

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestFidsOfAll has a client of many connections. Copies of a fid need no
// descriptor, but memory.
func TestFidsOfAll(t *testing.T) {
	s := newServer(t, Config{MaxFids: 10})
	if err := s.Add(Share{Name: "a", Path: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	var all []*client
	for range 4 {
		c := newClient(t, s)
		if err := c.attach(0, "a", 0); err != nil {
			t.Fatal(err)
		}
		for i := range uint32(9) {
			if _, err := c.walk(0, i+1); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, c)
	}
	more := newClient(t, s)
	want(t, "more fids", more.attach(0, "a", 0), unix.ENFILE)
	if err := all[0].clunk(3); err != nil {
		t.Error(err)
	}
	want(t, "after a clunk", more.attach(0, "a", 0), nil)
	_, err := more.walk(0, 1)
	want(t, "more fids again", err, unix.ENFILE)
	if _, err := all[1].roundTrip(tVersion, noTag, body(uint32(8192), version)); err != nil {
		t.Error(err)
	}
	_, err = more.walk(0, 1)
	want(t, "after a new session", err, nil)
}

// TestLocksOfAll has many processes lock one file by many fids each.
func TestLocksOfAll(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "f", "")
	s := newServer(t, Config{MaxFids: 5})
	if err := s.Add(Share{Name: "a", Path: dir}); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, s)
	if err := c.attach(0, "a", 0); err != nil {
		t.Fatal(err)
	}
	for fid := uint32(1); fid <= 4; fid++ {
		if err := c.open(c.at(t, fid, "f"), 0); err != nil {
			t.Fatal(err)
		}
	}
	lock := func(fid, proc uint32) error {
		_, err := c.lock(fid, lockRead, 0, 0, 5, proc)
		return err
	}
	for fid := uint32(1); fid <= 4; fid++ {
		want(t, "a lock", lock(fid, 1), nil)
	}
	want(t, "another process", lock(1, 2), nil)
	want(t, "one more fid", lock(2, 2), unix.ENOLCK)
	want(t, "one more process", lock(2, 3), unix.ENOLCK)
	want(t, "one that is there", lock(1, 2), nil)
	if err := c.clunk(4); err != nil {
		t.Error(err)
	}
	want(t, "after a clunk", lock(2, 2), nil)
	want(t, "one more after that", lock(2, 3), unix.ENOLCK)
	if _, err := c.lock(1, lockUnlock, 0, 0, 0, 1); err != nil {
		t.Error(err)
	}
	want(t, "after an unlock", lock(2, 3), nil)
}
