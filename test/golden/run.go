package golden

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A Config says what [Run] replays, and on what.
type Config struct {
	Dir   string // of the recordings; $BYRE_GOLDEN wins
	Rules string // the file with the table of differences
	// Bench makes what a recording is replayed on; nil is [Memory].
	Bench func(testing.TB, *Recording) Bench
	// Only leaves out the recordings that it is false for; nil is all.
	Only func(*Recording) bool
}

// Run replays recordings, each as a sub-test with the name of its file, and
// compares every document that reaches the host and every message that
// reaches the guest.
func Run(t *testing.T, c Config) {
	if dir := os.Getenv("BYRE_GOLDEN"); dir != "" {
		c.Dir = dir
	}
	if c.Bench == nil {
		c.Bench = Memory
	}
	files, err := filepath.Glob(filepath.Join(c.Dir, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no recordings in %s: %v", c.Dir, err)
	}
	rules := readRules(t, c.Rules)
	for _, f := range files {
		rec := load(t, f)
		name := strings.TrimSuffix(filepath.Base(f), ".json")
		if why := rec.notCovered(); why != "" {
			t.Logf("%s is left out: %s", name, why)
			continue
		}
		if c.Only != nil && !c.Only(rec) {
			continue
		}
		t.Run(name, func(t *testing.T) { newReplay(t, rec, rules, c.Bench).run() })
	}
	t.Cleanup(func() {
		for _, r := range rules {
			if r.used.Load() == 0 {
				t.Logf("rule %s about %s applied to no step", r.number, r.step)
			}
		}
	})
}

func load(t testing.TB, file string) *Recording {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	rec := new(Recording)
	if err := json.Unmarshal(b, rec); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return rec
}
