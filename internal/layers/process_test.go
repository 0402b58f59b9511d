package layers

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// The test program is also a process that uses a cache: its role and inputs
// are in the environment.
const (
	roleEnv  = "LAYERS_TEST_ROLE"
	cacheEnv = "LAYERS_TEST_CACHE"
	refEnv   = "LAYERS_TEST_REF"
)

func child(role string) int {
	debug := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelDebug}))
	c, err := Open(Config{Dir: os.Getenv(cacheEnv), Limit: -1, Logger: debug})
	if err != nil {
		fmt.Println("ERR", err)
		return 1
	}
	o := GetOptions{}
	if role == "slow" {
		// Tells that it is in the middle of a layer, and stays there.
		o.Progress = func(Event) {
			fmt.Println("WORKING")
			select {}
		}
	}
	img, err := c.Get(context.Background(), os.Getenv(refEnv), o)
	if err != nil {
		fmt.Println("ERR", err)
		return 1
	}
	fmt.Println("GOT", len(img.Layers))
	if role == "hold" {
		fmt.Scanln()
	}
	img.Close()
	return 0
}

func childCmd(role, cache, ref string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleEnv+"="+role, cacheEnv+"="+cache, refEnv+"="+ref)
	return cmd
}

// bigLayers is an image that takes a moment.
func bigLayers(t testing.TB) string {
	var layers [][]byte
	for i := range 3 {
		var es []tarEntry
		for j := range 300 {
			es = append(es, file(fmt.Sprintf("f%d", j), strings.Repeat(fmt.Sprint(i, j), 3000)))
		}
		layers = append(layers, tarOf(t, es...))
	}
	return simpleLayout(t, layers...)
}

// counting counts the conversions that a cache logs.
type counting struct {
	slog.Handler
	mu sync.Mutex
	n  int
}

func (c *counting) Enabled(context.Context, slog.Level) bool { return true }

func (c *counting) Handle(_ context.Context, r slog.Record) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.Message == "layer converted" {
		c.n++
	}
	return nil
}

func TestConcurrentGet(t *testing.T) {
	ref := bigLayers(t)
	count := &counting{}
	c := openCache(t, Config{Logger: slog.New(count)})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			img, err := c.Get(t.Context(), ref, GetOptions{})
			if err != nil {
				t.Error(err)
				return
			}
			if err := img.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if count.n != 3 {
		t.Errorf("got %d conversions, want 3", count.n)
	}
	noLeftovers(t, c)
}

func TestConcurrentProcesses(t *testing.T) {
	ref, cache := bigLayers(t), filepath.Join(t.TempDir(), "cache")
	outs := make([][]byte, 4)
	var wg sync.WaitGroup
	for i := range outs {
		wg.Go(func() {
			out, err := childCmd("get", cache, ref).CombinedOutput()
			if err != nil {
				t.Errorf("%v: %s", err, out)
			}
			outs[i] = out
		})
	}
	wg.Wait()
	n := 0
	for _, out := range outs {
		n += strings.Count(string(out), "layer converted")
	}
	if n != 3 {
		t.Errorf("got %d conversions, want 3:\n%s", n, outs)
	}
	noLeftovers(t, openCache(t, Config{Dir: cache}))
}

// TestKilled kills a process that is making a layer, and uses the cache again.
func TestKilled(t *testing.T) {
	ref, cache := bigLayers(t), filepath.Join(t.TempDir(), "cache")
	cmd := childCmd("slow", cache, ref)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "WORKING\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	if l, _ := os.ReadDir(filepath.Join(cache, "locks")); len(l) == 0 {
		t.Error("the process had no lock")
	}
	// While it lives, others leave its files alone, and wait no longer than
	// they want to.
	live := openCache(t, Config{Dir: cache})
	if left, _ := os.ReadDir(filepath.Join(cache, "tmp")); len(left) == 0 {
		t.Error("the files of a living process were removed")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := live.Get(ctx, ref, GetOptions{}); ctx.Err() == nil || err == nil {
		t.Errorf("got %v from waiting for a living process", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	c := openCache(t, Config{Dir: cache})
	noLeftovers(t, c)
	if n := len(mustGet(t, c, ref, GetOptions{}).Layers); n != 3 {
		t.Errorf("got %d layers, want 3", n)
	}
	noLeftovers(t, c)
}

// TestHeldElsewhere prunes while another process holds an image.
func TestHeldElsewhere(t *testing.T) {
	ref, cache := bigLayers(t), filepath.Join(t.TempDir(), "cache")
	cmd := childCmd("hold", cache, ref)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "GOT") {
	}
	c := openCache(t, Config{Dir: cache})
	got, err := c.Prune(t.Context(), PruneOptions{})
	if err != nil || got.Layers != 0 || got.InUse != 3 {
		t.Errorf("got %+v, %v, want 3 in use", got, err)
	}
	in.Close()
	for lines.Scan() {
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if got, err = c.Prune(t.Context(), PruneOptions{}); err != nil || got.Layers != 3 || got.Bytes <= 0 || got.InUse != 0 {
		t.Errorf("got %+v, %v, want 3 removed", got, err)
	}
	if n := diskCount(t, c); n != 0 {
		t.Errorf("got %d disks, want none", n)
	}
}

func newLogger(h slog.Handler) *slog.Logger { return slog.New(h) }
