//go:build linux

package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/place"
)

func TestCheckPath(t *testing.T) {
	for _, p := range []string{"/run/layers/p1", "/run/gcs/c/id/rootfs", "/tmp/scratch", "/mnt/x", "/run/nvidia", "/run/gcs/c/a b"} {
		if err := CheckPath(p); err != nil {
			t.Errorf("%s: got %v, want nil", p, err)
		}
	}
	for _, p := range []string{
		"", "/", "run/x", "/run", "/run/", "/run/x/", "/run/../etc", "/run/x/../y", "/run//x", "/etc/x", "/runx/y", "/tmp", "/mnt",
		"/run/gcs", "/run/gcs/c", "/run/byre", "/run/byre/runc/x", "/run/x\n", "/run/x\x00y", "/run/" + strings.Repeat("x", maxPath),
	} {
		if err := CheckPath(p); !errors.Is(err, ErrPath) {
			t.Errorf("%.40q: got %v, want %v", p, err, ErrPath)
		}
	}
}

func FuzzCheckPath(f *testing.F) {
	f.Add("/run/x/../../etc")
	f.Fuzz(func(t *testing.T, p string) {
		if CheckPath(p) == nil && (!filepath.IsAbs(p) || filepath.Clean(p) != p || strings.Contains(p, "..") && strings.Contains(p, "/../")) {
			t.Errorf("%q is accepted", p)
		}
	})
}

func TestMakeDir(t *testing.T) {
	dir := t.TempDir()
	f, err := MakeDir(dir+"/a/b", 0o700)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if st, err := os.Stat(dir + "/a/b"); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("got %v, %v", st, err)
	}
	if err := errors.Join(os.Symlink("/etc", dir+"/link"), os.WriteFile(dir+"/file", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"/link", "/link/x", "/file", "/file/x"} {
		if f, err := MakeDir(dir+p, 0o700); err == nil {
			f.Close()
			t.Errorf("%s was opened", p)
		}
	}
	if _, err := OpenDir(dir + "/none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want %v", err, os.ErrNotExist)
	}
}

func TestFSType(t *testing.T) {
	super := func(at int, b ...byte) string {
		s := make([]byte, 4096)
		copy(s[at:], b)
		return string(s)
	}
	for _, c := range []struct{ name, disk, want string }{
		{"ext4", super(1024+0x38, 0x53, 0xef), "ext4"},
		{"erofs", super(1024, 0xe2, 0xe1, 0xf5, 0xe0), "erofs"},
		{"text", strings.Repeat("hello\n", 1000), "error"},
		{"short", "hello", "error"},
		{"empty", "", "error"},
	} {
		got, err := fsType(strings.NewReader(c.disk))
		if errors.Is(err, ErrFormat) {
			got = "error"
		}
		if got != c.want {
			t.Errorf("%s: got %s (%v), want %s", c.name, got, err, c.want)
		}
	}
}

func TestMountData(t *testing.T) {
	for _, c := range []struct {
		r    MountRequest
		want string
	}{
		{MountRequest{FSType: "ext4"}, `[""]`},
		{MountRequest{FSType: "ext4", ReadOnly: true}, `["noload"]`},
		{MountRequest{FSType: "ext4", ReadOnly: true, DAX: true}, `["noload,dax" "noload"]`},
		{MountRequest{FSType: "erofs", ReadOnly: true}, `[""]`},
		{MountRequest{FSType: "erofs", ReadOnly: true, DAX: true}, `["dax=always" ""]`},
		{MountRequest{FSType: "ext4", ReadOnly: true, Data: "x"}, `["x"]`},
	} {
		if got := fmt.Sprintf("%q", mountData(c.r)); got != c.want {
			t.Errorf("%+v: got %s, want %s", c.r, got, c.want)
		}
	}
}

func TestOverlayData(t *testing.T) {
	fd := func(n int) string { return fmt.Sprintf("/proc/self/fd/%d", n) }
	got, err := overlayData([]string{fd(5), fd(6)}, fd(7), fd(8))
	if want := "lowerdir=/proc/self/fd/5:/proc/self/fd/6,upperdir=/proc/self/fd/7,workdir=/proc/self/fd/8"; got != want || err != nil {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
	got, err = overlayData([]string{fd(5), fd(6)}, "", "")
	if want := "lowerdir=/proc/self/fd/5:/proc/self/fd/6"; got != want || err != nil {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
	var lower []string
	for n := range 200 {
		lower = append(lower, fd(100+n))
	}
	if got, err := overlayData(lower, fd(7), fd(8)); err != nil || len(got) >= 4096 {
		t.Errorf("200 layers: got %d bytes, %v", len(got), err)
	}
	if _, err := overlayData(append(lower, lower...), "", ""); err == nil {
		t.Error("400 layers fit a page")
	}
}

func TestShareData(t *testing.T) {
	if got, want := shareData(9, "name"), "trans=fd,rfdno=9,wfdno=9,msize=524288,version=9p2000.L,cache=mmap,aname=name"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, name := range []string{"a,b", "a\nb", strings.Repeat("x", 300)} {
		if err := checkShareName(name); err == nil {
			t.Errorf("%.20q is accepted", name)
		}
	}
}

func TestUnescape(t *testing.T) {
	if got, want := unescape(`/a\040b\134040\011c`), "/a b\\040\tc"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func fakeSys(t *testing.T) string {
	dir := t.TempDir()
	old := sysfs
	sysfs = dir
	t.Cleanup(func() { sysfs = old })
	return dir
}

func soon() time.Time { return time.Now().Add(150 * time.Millisecond) }

func TestFindDisk(t *testing.T) {
	sys := fakeSys(t)
	block := filepath.Join(sys, "bus/scsi/devices/0:0:2:7/block")
	if _, err := findDisk(soon(), 2, 7); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("no disk: got %v, want %v", err, os.ErrDeadlineExceeded)
	}
	// The controller is asked to look for exactly this disk, once.
	scan := filepath.Join(sys, "class/scsi_host/host0/scan")
	if err := errors.Join(os.MkdirAll(filepath.Dir(scan), 0o755), os.WriteFile(scan, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	go os.MkdirAll(filepath.Join(block, "sdq"), 0o755)
	dev, err := findDisk(time.Now().Add(10*time.Second), 2, 7)
	if dev != "/dev/sdq" || err != nil {
		t.Errorf("got %s, %v", dev, err)
	}
	if b, err := os.ReadFile(scan); err != nil || len(b) > 0 && string(b) != "0 2 7" {
		t.Errorf("scan got %q, %v", b, err)
	}
	if err := os.MkdirAll(filepath.Join(block, "sdr"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := findDisk(soon(), 2, 7); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("two disks at one address: got %v", err)
	}
}

// A disk without sectors is what the kernel keeps of one that went while it was
// being asked: it is forgotten, and looked for again.
func TestFindDiskEmpty(t *testing.T) {
	sys := fakeSys(t)
	dir := filepath.Join(sys, "bus/scsi/devices/0:0:2:7")
	size, scan := filepath.Join(dir, "block/sdq/size"), filepath.Join(sys, "class/scsi_host/host0/scan")
	for name, text := range map[string]string{size: "0\n", scan: ""} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if dev, err := findDisk(soon(), 2, 7); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %s, %v, want %v", dev, err, os.ErrDeadlineExceeded)
	}
	for name, want := range map[string]string{filepath.Join(dir, "delete"): "1\n", scan: "0 2 7"} {
		if b, err := os.ReadFile(name); string(b) != want {
			t.Errorf("%s got %q, %v", name, b, err)
		}
	}
	if err := os.WriteFile(size, []byte("8192\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if dev, err := findDisk(soon(), 2, 7); dev != "/dev/sdq" || err != nil {
		t.Errorf("got %s, %v", dev, err)
	}
}

func TestDiskAddresses(t *testing.T) {
	fakeSys(t)
	for _, d := range []hcsschema.LCOWMappedVirtualDisk{{Controller: place.MaxSCSIControllers}, {Lun: place.MaxLUNs}} {
		if err := AddDisk(d, nil); err == nil {
			t.Errorf("added %+v", d)
		}
		if err := RemoveDisk(d); err == nil {
			t.Errorf("removed %+v", d)
		}
	}
	if err := AddDisk(hcsschema.LCOWMappedVirtualDisk{Lun: 3}, nil); err != nil {
		t.Errorf("without mount path: got %v, want nil", err)
	}
}

func TestEject(t *testing.T) {
	sys := fakeSys(t)
	d := hcsschema.LCOWMappedVirtualDisk{Controller: 1, Lun: 9}
	if err := RemoveDisk(d); err != nil {
		t.Errorf("a disk that is not there: got %v, want nil", err)
	}
	name := filepath.Join(sys, "bus/scsi/devices/0:0:1:9/delete")
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := RemoveDisk(d); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(name); string(b) != "1\n" {
		t.Errorf("got %q, %v; want 1", b, err)
	}
}

func TestFindVPMem(t *testing.T) {
	sys := fakeSys(t)
	// Without byre's bridges it is a machine of the reference's.
	if dev, err := FindVPMem(soon(), 3); dev != "/dev/pmem3" || err != nil {
		t.Errorf("got %s, %v", dev, err)
	}
	if err := os.MkdirAll(sys+"/devices/pci0000:00/0000:00:10.0", 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := FindVPMem(soon(), 3); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("no device: got %v, want %v", err, os.ErrDeadlineExceeded)
	}
	if _, err := FindVPMem(soon(), place.MaxVPMem); err == nil {
		t.Error("found a device with a number that there is not")
	}
	// null stands for a device whose node is there.
	at := strings.NewReplacer("/sys", sys, "??", "07").Replace(place.VPMem(3).Sysfs())
	if err := os.MkdirAll(at+"/virtio5/ndbus0/region0/namespace0.0/block/pmem9", 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := FindVPMem(soon(), 3); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no node yet: got %v, want %v", err, os.ErrNotExist)
	}
}

func TestWait(t *testing.T) {
	var e events
	e.once.Do(func() {}) // no socket
	n := 0
	err := e.wait(time.Now().Add(10*time.Second), func() (bool, error) {
		n++
		return n == 3, nil
	})
	if err != nil || n != 3 {
		t.Errorf("got %d checks, %v", n, err)
	}
	last := errors.New("last")
	if err := e.wait(soon(), func() (bool, error) { return false, last }); err != last {
		t.Errorf("got %v, want %v", err, last)
	}
	final := errors.New("final")
	if err := e.wait(soon(), func() (bool, error) { return true, final }); err != final {
		t.Errorf("got %v, want %v", err, final)
	}
}
