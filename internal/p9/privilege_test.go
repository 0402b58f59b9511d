//go:build linux

package p9

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPrivilege writes to files that give the rights of their owner to whoever
// runs them: after a user's write they do not any more.
func TestPrivilege(t *testing.T) {
	for name, tt := range map[string]struct {
		uid        uint32
		mode, want uint32
	}{
		"a user":                {1234, 0o6777, 0o777},
		"set-user-id":           {1234, 0o4766, 0o766},
		"set-group-id":          {1234, 0o2777, 0o777},
		"a group that runs not": {1234, 0o2767, 0o2767},
		"both, runs not":        {1234, 0o6767, 0o2767},
		"neither":               {1234, 0o1766, 0o1766},
		"root":                  {0, 0o6777, 0o6777},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			p := put(t, dir, "f", "text")
			mode := func() uint32 {
				var st unix.Stat_t
				if err := unix.Stat(p, &st); err != nil {
					t.Fatal(err)
				}
				return st.Mode & 0o7777
			}
			s := newServer(t, Config{})
			if err := s.Add(Share{Name: "a", Path: dir}); err != nil {
				t.Fatal(err)
			}
			c := newClient(t, s)
			if err := c.attach(0, "a", tt.uid); err != nil {
				t.Fatal(err)
			}
			if err := unix.Chmod(p, tt.mode); err != nil {
				t.Fatal(err)
			}
			if err := c.open(c.at(t, 1, "f"), openReadWrite); err != nil {
				t.Fatal(err)
			}
			if _, err := c.read(1, 0, 4); err != nil || mode() != tt.mode {
				t.Errorf("after a read: mode %o, %v", mode(), err)
			}
			if _, err := c.write(1, 0, nil); err != nil || mode() != tt.mode {
				t.Errorf("after a write of nothing: mode %o, %v", mode(), err)
			}
			if _, err := c.write(1, 0, []byte("x")); err != nil || mode() != tt.want {
				t.Errorf("after a write: mode %o, %v, want %o", mode(), err, tt.want)
			}
			if os.Getuid() != 0 { // who may not give files away has made this one for itself
				return
			}
			p = filepath.Join(dir, "new")
			c.at(t, 2)
			if err := c.create(2, "new", openWriteOnly, tt.mode, 1); err != nil || mode() != tt.mode {
				t.Fatalf("a new file: mode %o, %v", mode(), err)
			}
			if _, err := c.write(2, 0, []byte("x")); err != nil || mode() != tt.want {
				t.Errorf("a new file after a write: mode %o, %v, want %o", mode(), err, tt.want)
			}
		})
	}
}

// TestPrivilegeOfReadOnly writes to a file that cannot be written to: then it
// stays what it is.
func TestPrivilegeOfReadOnly(t *testing.T) {
	for name, readOnly := range map[string]bool{"the share": true, "the fid": false} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			p := put(t, dir, "f", "text")
			if err := unix.Chmod(p, 0o6777); err != nil {
				t.Fatal(err)
			}
			s := newServer(t, Config{})
			if err := s.Add(Share{Name: "a", Path: dir, ReadOnly: readOnly}); err != nil {
				t.Fatal(err)
			}
			c := newClient(t, s)
			if err := c.attach(0, "a", 1234); err != nil {
				t.Fatal(err)
			}
			if err := c.open(c.at(t, 1, "f"), 0); err != nil {
				t.Fatal(err)
			}
			_, err := c.write(1, 0, []byte("x"))
			want(t, "write", err, unix.EBADF)
			var st unix.Stat_t
			if err := unix.Stat(p, &st); err != nil || st.Mode&0o7777 != 0o6777 {
				t.Errorf("mode %o, %v, want 6777", st.Mode&0o7777, err)
			}
		})
	}
}
