//go:build linux

package boot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

func TestParseInit(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"-e 1 /bin/vsockexec -o 109 -e 109 /bin/gcs -v4", "{1  [/bin/vsockexec -o 109 -e 109 /bin/gcs -v4]}"},
		{"-e1 -d /bin/sh cmd", "{1 /bin/sh [cmd]}"},
		{"sh -c x", "{0  [sh -c x]}"},
		{"-e 1 /bin/gcs -v4 initrd=initrd", "{1  [/bin/gcs -v4]}"},
		{"-e 1 initrd=initrd x", "{1  [initrd=initrd x]}"}, {"initrd=initrd", "usage"},
		{"-e 1 -- -x", "{1  [-x]}"},
		{"-e 1 cmd initrd=initrd", "{1  [cmd]}"}, {"-e 1 initrd=initrd", "usage"},
		{"-e", "usage"}, {"-e 0 x", "usage"}, {"-e x x", "usage"}, {"-e 4294967295 x", "usage"}, {"-z x", "usage"}, {"-e 1", "usage"}, {"", "usage"},
	} {
		a, err := ParseInit(strings.Fields(c.args))
		got := fmt.Sprint(a)
		if errors.Is(err, ErrUsage) {
			got = "usage"
		}
		if got != c.want {
			t.Errorf("%s: got %s, want %s", c.args, got, c.want)
		}
	}
}

// What the kernel does not know comes before what is for init.
func TestOwnArgs(t *testing.T) {
	for _, c := range []struct{ line, args, want string }{
		{"quiet -- -e 1 /bin/gcs", "-e,1,/bin/gcs", "-e,1,/bin/gcs"},
		{"quiet toast bread -- -e 1 /bin/gcs\n", "toast,bread,-e,1,/bin/gcs", "-e,1,/bin/gcs"},
		{`x="a -- b" toast -- -e 1 sh -c "/bin/gcs -v4 & exec sh"`, "toast,-e,1,sh,-c,/bin/gcs -v4 & exec sh", "-e,1,sh,-c,/bin/gcs -v4 & exec sh"},
		{"toast -- -e 1 -- x", "toast,-e,1,--,x", "-e,1,--,x"},
		{"toast -- x initrd=initrd", "toast,x,initrd=initrd", "x,initrd=initrd"},
		{"toast --", "toast", ""},
		{"toast -- a b c", "b,c", "b,c"}, // started by another init
		{"quiet", "/bin/gcs,-v4", "/bin/gcs,-v4"},
		{"", "", ""},
	} {
		var args []string
		if c.args != "" {
			args = strings.Split(c.args, ",")
		}
		if got := strings.Join(ownArgs(c.line, args), ","); got != c.want {
			t.Errorf("%s: got %s, want %s", c.line, got, c.want)
		}
	}
}

// A machine with a console runs a shell beside the agent.
func TestParseInitWithShell(t *testing.T) {
	for script, want := range map[string]string{
		"/bin/vsockexec -e 109 /bin/gcs -v4 & exec sh":  "{1 sh [/bin/vsockexec -e 109 /bin/gcs -v4]}",
		"-e 3 /bin/vsockexec -e 109 /bin/gcs & exec sh": "{3 sh [/bin/vsockexec -e 109 /bin/gcs]}",
		"x; y":         "{1  [sh -c x; y]}",
		" & exec sh":   "usage",
		"-z & exec sh": "usage",
	} {
		a, err := ParseInit([]string{"-e", "1", "sh", "-c", script})
		got := fmt.Sprint(a)
		if errors.Is(err, ErrUsage) {
			got = "usage"
		}
		if got != want {
			t.Errorf("%q: got %s, want %s", script, got, want)
		}
	}
}

func TestParseExec(t *testing.T) {
	a, err := ParseExec(strings.Fields("-i 5 -o 109 -e 109 /bin/gcs -e 3"))
	if got, want := fmt.Sprint(a, err), "{5 109 109 [/bin/gcs -e 3]} <nil>"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if _, err := ParseExec([]string{"-o", "1"}); !errors.Is(err, ErrUsage) {
		t.Errorf("got %v, want %v", err, ErrUsage)
	}
}

func TestParseRoot(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"root=/dev/pmem0 ro rootwait init=/init quiet -- -e 1 root=/x", "{/dev/pmem0   /init false}"},
		{"rootfstype=ext4 rootflags=noload rw", "{ ext4 noload /sbin/init true}"},
		{"", "{   /sbin/init false}"},
	} {
		if got := fmt.Sprint(parseRoot(c.line)); got != c.want {
			t.Errorf("%s: got %s, want %s", c.line, got, c.want)
		}
	}
}

func TestAddEntropy(t *testing.T) {
	sent := bytes.Repeat([]byte{1, 2, 3, 4}, 300)
	var got []byte
	n, err := addEntropy(iotest.HalfReader(bytes.NewReader(sent)), func(b []byte) error {
		got = append(got, b...)
		return nil
	})
	if err != nil || n != len(sent) || !bytes.Equal(got, sent) {
		t.Errorf("got %d bytes, %v", n, err)
	}
	n, err = addEntropy(endless{}, func([]byte) error { return nil })
	if err != nil || n != maxEntropy {
		t.Errorf("endless: got %d bytes, %v; want %d", n, err, maxEntropy)
	}
	broken := errors.New("broken")
	if _, err := addEntropy(iotest.ErrReader(broken), nil); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
	if _, err := addEntropy(bytes.NewReader(sent), func([]byte) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

var _ io.Reader = endless{}

func TestLookPath(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"yes": 0o755, "no": 0o644} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := LookPath("yes", "/none:"+dir); got != dir+"/yes" || err != nil {
		t.Errorf("got %s, %v", got, err)
	}
	if got, err := LookPath("/a/b", dir); got != "/a/b" || err != nil {
		t.Errorf("got %s, %v", got, err)
	}
	if _, err := LookPath("no", dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want %v", err, os.ErrNotExist)
	}
}

func TestRemoveInitramfs(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.MkdirAll(dir+"/a/b", 0o755), os.WriteFile(dir+"/a/f", nil, 0o600), os.Symlink("/", dir+"/a/l")); err != nil {
		t.Fatal(err)
	}
	removeInitramfs(dir)
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("got %v, %v; want an empty folder", left, err)
	}
	if _, err := os.Stat("/etc"); err != nil {
		t.Error("a link was followed")
	}
}

func FuzzParseInit(f *testing.F) {
	f.Add("-e 1 /bin/vsockexec -e 109 /bin/gcs")
	f.Add("-e1 -d x y")
	f.Fuzz(func(t *testing.T, s string) {
		args := strings.Split(s, " ")
		if a, err := ParseInit(args); err == nil && len(a.Command) == 0 {
			t.Error("no command and no error")
		}
		if a, err := ParseExec(args); err == nil && len(a.Command) == 0 {
			t.Error("no command and no error")
		}
	})
}
