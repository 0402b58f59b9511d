//go:build linux

package p9

import "testing"

// TestFlock has locks of flock, which belong to the open file: any process
// that has it can change them and give them up, as flock(1) does in a script.
func TestFlock(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "f", "")
	c := mount(t, Share{Path: dir})
	for fid := uint32(1); fid <= 3; fid++ {
		if err := c.open(c.at(t, fid, "f"), openReadWrite); err != nil {
			t.Fatal(err)
		}
	}
	type try struct {
		what   string
		fid    uint32
		typ    uint8
		flags  uint32
		length uint64
		proc   uint32
		want   uint8
	}
	for _, tt := range []try{
		{"lock", 1, lockWrite, lockFlagBlock, 0, 100, lockSuccess},
		{"by another open file", 2, lockRead, 0, 0, 200, lockBlocked},
		{"again by another process", 1, lockWrite, 0, 0, 101, lockSuccess},
		{"by another open file after that", 2, lockRead, 0, 0, 200, lockBlocked},
		{"shared by a third process", 1, lockRead, lockFlagBlock, 0, 102, lockSuccess},
		{"shared by another open file", 2, lockRead, 0, 0, 200, lockSuccess},
		{"for one alone", 1, lockWrite, 0, 0, 103, lockBlocked},
		{"unlock of another open file", 2, lockUnlock, lockFlagBlock, 0, 201, lockSuccess},
		{"for one alone after that", 1, lockWrite, 0, 0, 103, lockSuccess},
		{"unlock by another process", 1, lockUnlock, lockFlagBlock, 0, 104, lockSuccess},
		{"after that", 2, lockWrite, 0, 0, 200, lockSuccess},

		// A lock of fcntl belongs to its process: another one that has the
		// open file, and closes it, gives up its own locks only.
		{"end of another process", 2, lockUnlock, 0, 0, 205, lockSuccess},
		{"still locked", 1, lockWrite, 0, 0, 100, lockBlocked},
		{"unlock", 2, lockUnlock, 0, 0, 200, lockSuccess},
		// A part of a file is locked by fcntl only.
		{"part", 3, lockWrite, 0, 5, 300, lockSuccess},
		{"part by another process", 3, lockWrite, 0, 5, 301, lockBlocked},
		{"all by another process", 3, lockWrite, 0, 0, 301, lockBlocked},
		{"unlock of nothing", 3, lockUnlock, lockFlagBlock, 0, 301, lockSuccess},
		{"part still locked", 1, lockWrite, 0, 5, 100, lockBlocked},
	} {
		if got, err := c.lock(tt.fid, tt.typ, tt.flags, 0, tt.length, tt.proc); got != tt.want || err != nil {
			t.Errorf("%s: status %d, %v, want %d", tt.what, got, err, tt.want)
		}
	}
}

// TestFlockUnlockUnderWay has two processes that take turns by locks of fcntl
// on one open file. Their kernel lets the second ask for the lock before the
// server has heard that the first gave it up.
func TestFlockUnlockUnderWay(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "f", "")
	c := mount(t, Share{Path: dir})
	for fid := uint32(1); fid <= 2; fid++ {
		if err := c.open(c.at(t, fid, "f"), openReadWrite); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := c.lock(1, lockWrite, 0, 0, 0, 100); got != lockSuccess || err != nil {
		t.Fatal(got, err)
	}
	second, err := c.send(tLock, c.nextTag(), body(lockArgs(1, lockWrite, lockFlagBlock, 0, 0, 101)...))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.lock(1, lockUnlock, 0, 0, 0, 100); got != lockSuccess || err != nil {
		t.Fatal(got, err)
	}
	if d, err := c.result(tLock, second); err != nil || d.u8() != lockSuccess {
		t.Errorf("the second: %v", err)
	}
	if got, err := c.lock(2, lockWrite, 0, 0, 0, 200); got != lockBlocked || err != nil {
		t.Errorf("what the second has: status %d, %v", got, err)
	}
}
