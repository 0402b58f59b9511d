package layers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestOpen(t *testing.T) {
	t.Setenv("BYRE_CACHE", filepath.Join(t.TempDir(), "a", "b"))
	c, err := Open(Config{})
	if err != nil || c.Dir() != os.Getenv("BYRE_CACHE") {
		t.Errorf("got %v, %v", c, err)
	}
	for _, cfg := range []Config{{MaxLayer: -1}, {MaxLayer: 1 << 40}, {MaxFiles: -1}} {
		if _, err := Open(cfg); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: got %v, want ErrInvalid", cfg, err)
		}
	}
	open := t.TempDir()
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Dir: open}); !errors.Is(err, ErrInvalid) {
		t.Errorf("folder for all: got %v, want ErrInvalid", err)
	}
	if os.Geteuid() == 0 {
		foreign := t.TempDir()
		if err := os.Chown(foreign, 12345, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Config{Dir: foreign}); !errors.Is(err, ErrInvalid) {
			t.Errorf("folder of another: got %v, want ErrInvalid", err)
		}
	}
	if _, err := Open(Config{Dir: "/dev/null/x"}); err == nil {
		t.Error("opened a cache below a device")
	}
}

// TestFull has a cache on a small file system.
func TestFull(t *testing.T) {
	needRoot(t)
	d := t.TempDir()
	run(t, "mount", "-t", "tmpfs", "-o", "size=3m,mode=0700", "tmpfs", d)
	t.Cleanup(func() { run(t, "umount", d) })
	c := openCache(t, Config{Dir: d})
	small := simpleLayout(t, tarOf(t, file("f", "1")))
	mustGet(t, c, small, GetOptions{}).Close()
	body := make([]byte, 4<<20)
	for i := range body {
		body[i] = byte(i * i >> 3)
	}
	layer := tarOf(t, file("f", string(body)))
	big := simpleLayout(t, layer)
	r := newRegistry(t)
	refs := map[string]string{
		"layout":   big,
		"registry": r.push(t, "big:1", bigImage(t, 4<<20)),
		"packed":   write(t, gz(t, archiveOf(t, big))),
	}
	for name, ref := range refs {
		_, err := c.Get(t.Context(), ref, GetOptions{})
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "byre image prune") {
			t.Errorf("%s: got %v, want ENOSPC and what to do", name, err)
		}
		noLeftovers(t, c)
		if n := diskCount(t, c); n != 1 {
			t.Errorf("%s: got %d disks, want the old one", name, n)
		}
	}
	mustGet(t, c, small, GetOptions{})
	if _, err := NewScratch(d, MaxScratch); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("scratch: got %v, want ENOSPC", err)
	}
	if left, _ := filepath.Glob(filepath.Join(d, "scratch*")); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

// TestCancel ends the context at various times.
func TestCancel(t *testing.T) {
	ref := bigLayers(t)
	for _, after := range []int{1, 5, 20} {
		c := openCache(t, Config{})
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("changed my mind")
		n := 0
		_, err := c.Get(ctx, ref, GetOptions{Progress: func(Event) {
			if n++; n >= after {
				cancel(why)
			}
		}})
		if n >= after && err == nil {
			t.Errorf("%d: got the image", after)
		}
		if err != nil && !errors.Is(err, why) {
			t.Errorf("%d: got %v, want the cause", after, err)
		}
		noLeftovers(t, c)
		cancel(nil)
	}
}

// TestStall has a registry that begins to send and then says nothing: the
// transport gives that up, or the context.
func TestStall(t *testing.T) {
	r := newRegistry(t)
	ref := r.push(t, "x:1", randomImage(t, runtime.GOARCH, 1))
	c := openCache(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	r.set(stallBlobs(cancel))
	if _, err := c.Get(ctx, ref, GetOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
	noLeftovers(t, c)

	r.set(stallBlobs(func() {}))
	tr := &boundedTransport{next: http.DefaultTransport, stall: 50 * time.Millisecond}
	for _, path := range []string{"/v2/x/blobs/y", "/v2/silent/blobs/"} {
		resp, err := (&http.Client{Transport: tr}).Get("http://" + r.host + path)
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "sent nothing") {
			t.Errorf("%s: got %v", path, err)
		}
	}
}

func TestEviction(t *testing.T) {
	layer := func(i int) string {
		return simpleLayout(t, tarOf(t, file("f", strings.Repeat(fmt.Sprint(i), 500_000))))
	}
	c := openCache(t, Config{Limit: 2 << 20})
	first := mustGet(t, c, layer(0), GetOptions{})
	at := time.Now().Add(-time.Hour)
	for i := 1; i < 8; i++ {
		img := mustGet(t, c, layer(i), GetOptions{})
		img.Close()
		// Later ones were used later, whatever the clock's resolution.
		at = at.Add(time.Minute)
		key := strings.TrimPrefix(img.Layers[0].DiffID, "sha256:")
		if err := os.Chtimes(c.recordPath(key), at, at); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(first.Layers[0].Path); err != nil {
		t.Errorf("the disk in use: %v", err)
	}
	disks, err := c.disks()
	total := int64(0)
	for _, d := range disks {
		total += d.size
	}
	if err != nil || total > 2<<20 || len(disks) < 3 {
		t.Errorf("got %d disks of %d bytes, %v", len(disks), total, err)
	}
	last := tarOf(t, file("f", strings.Repeat("7", 500_000)))
	if _, err := os.Stat(c.diskPath(sha(last).Hex)); err != nil {
		t.Errorf("the last used disk: %v", err)
	}
	mustGet(t, c, layer(7), GetOptions{})
	if got, err := c.Prune(t.Context(), PruneOptions{}); err != nil || got.Layers != len(disks)-2 || got.InUse != 2 {
		t.Errorf("got %+v, %v of %d", got, err, len(disks))
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if err := first.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}

func TestImages(t *testing.T) {
	r := newRegistry(t)
	a := r.push(t, "a:1", randomImage(t, runtime.GOARCH, 2))
	b := r.push(t, "b:1", randomImage(t, runtime.GOARCH, 3))
	c := openCache(t, Config{})
	mustGet(t, c, a, GetOptions{}).Close()
	img := mustGet(t, c, b, GetOptions{})
	img.Close()
	list, err := c.List()
	if err != nil || len(list) != 2 {
		t.Fatalf("got %v, %v", list, err)
	}
	for _, e := range list {
		if e.Size <= 0 || e.Missing != 0 || e.Created.IsZero() || e.LastUsed.IsZero() || e.Platform != "linux/"+runtime.GOARCH {
			t.Errorf("got %+v", e)
		}
	}
	if err := c.Remove(t.Context(), a); err != nil {
		t.Error(err)
	}
	if err := c.Remove(t.Context(), a); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	if got, err := c.Prune(t.Context(), PruneOptions{}); err != nil || got.Layers != 2 {
		t.Errorf("got %+v, %v, want 2 layers", got, err)
	}
	if list, err = c.List(); err != nil || len(list) != 1 || list[0].Ref != b || list[0].Digest != img.Digest || len(list[0].Layers) != 3 {
		t.Errorf("got %+v, %v", list, err)
	}
	if got, err := c.Prune(t.Context(), PruneOptions{Limit: 1}); err != nil || got.Layers != 3 {
		t.Errorf("got %+v, %v, want 3 layers", got, err)
	}
	if list, err = c.List(); err != nil || list[0].Missing != 3 {
		t.Errorf("got %+v, %v", list, err)
	}
	// A damaged entry does not keep others from being used, and can be pulled.
	paths, err := listDir(filepath.Join(c.Dir(), "images"), ".json")
	if err != nil || len(paths) != 1 {
		t.Fatal(paths, err)
	}
	if err := os.WriteFile(paths[0], []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if list, err = c.List(); err != nil || len(list) != 0 {
		t.Errorf("got %+v, %v", list, err)
	}
	mustGet(t, c, b, GetOptions{})
	if list, err = c.List(); err != nil || len(list) != 1 {
		t.Errorf("got %+v, %v", list, err)
	}
}

// TestDamage changes disks and records behind the cache's back.
func TestDamage(t *testing.T) {
	ref := simpleLayout(t, tarOf(t, file("f", "1")))
	count := &counting{}
	c := openCache(t, Config{Logger: newLogger(count)})
	img := mustGet(t, c, ref, GetOptions{})
	img.Close()
	disk := img.Layers[0].Path
	record := strings.TrimSuffix(disk, ".ext4") + ".json"
	want, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		edit  func() error
		again int // conversions
	}{
		{"touched", func() error { return os.Chtimes(disk, time.Now(), time.Now()) }, 0},
		{"restored", func() error {
			return errors.Join(os.Remove(disk), os.WriteFile(disk, want, 0o400))
		}, 0},
		{"changed", func() error {
			b := append([]byte(nil), want...)
			b[5000] ^= 1
			return errors.Join(os.Remove(disk), os.WriteFile(disk, b, 0o400))
		}, 1},
		{"truncated", func() error { return os.Truncate(disk, 100) }, 1},
		{"removed", func() error { return os.Remove(disk) }, 1},
		{"no record", func() error { return os.Remove(record) }, 1},
		{"bad record", func() error { return os.WriteFile(record, []byte("{"), 0o600) }, 1},
		{"old format", func() error { return os.WriteFile(record, []byte(`{"format":0}`), 0o600) }, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.edit(); err != nil {
				t.Fatal(err)
			}
			count.n = 0
			mustGet(t, c, ref, GetOptions{}).Close()
			if count.n != tt.again {
				t.Errorf("got %d conversions, want %d", count.n, tt.again)
			}
			mustGet(t, c, ref, GetOptions{}).Close()
			if got, err := os.ReadFile(disk); err != nil || string(got) != string(want) || count.n != tt.again {
				t.Errorf("got another disk, %v, %d conversions", err, count.n)
			}
			noLeftovers(t, c)
		})
	}
}

// TestVerify finds what the check on use cannot.
func TestVerify(t *testing.T) {
	c := openCache(t, Config{})
	img := mustGet(t, c, simpleLayout(t, tarOf(t, file("f", "1")), tarOf(t, file("g", "1"))), GetOptions{})
	if bad, err := c.Verify(t.Context()); err != nil || len(bad) != 0 {
		t.Errorf("got %v, %v", bad, err)
	}
	path := img.Layers[0].Path
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrPermission) {
		err = os.Chmod(path, 0o600)
		if err == nil {
			f, err = os.OpenFile(path, os.O_RDWR, 0)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("x"), 5000); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := os.Chtimes(path, fi.ModTime(), fi.ModTime()); err != nil {
		t.Fatal(err)
	}
	bad, err := c.Verify(t.Context())
	if err != nil || len(bad) != 1 || bad[0] != img.Layers[0].DiffID {
		t.Errorf("got %v, %v, want %s", bad, err, img.Layers[0].DiffID)
	}
	img.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Verify(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
}

// TestEightyLayers stacks many small layers.
func TestEightyLayers(t *testing.T) {
	var layers [][]byte
	for i := range 80 {
		layers = append(layers, tarOf(t, dir("d"), file(fmt.Sprintf("d/f%d", i), "1"), file("d/last", fmt.Sprint(i))))
	}
	c := openCache(t, Config{})
	img := mustGet(t, c, simpleLayout(t, layers...), GetOptions{})
	if len(img.Layers) != 80 {
		t.Fatalf("got %d layers, want 80", len(img.Layers))
	}
	for i, l := range img.Layers {
		if want := sha(layers[i]).String(); l.DiffID != want {
			t.Errorf("layer %d: got %s, want %s", i, l.DiffID, want)
		}
	}
	got := treeOf(t, unionOf(t, img))
	if len(got) != 82 || got[len(got)-1] != "d/last = 79" {
		t.Errorf("got %d names, the last %s", len(got), got[len(got)-1])
	}
}
