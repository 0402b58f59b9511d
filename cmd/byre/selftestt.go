package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/byrevm/byre/hcs/hcstest"
)

// A selfSuite runs tests as package testing does, in a program.
type selfSuite struct {
	only *regexp.Regexp // names of the tests that are run
	out  io.Writer      // gets a line for each test

	mu      sync.Mutex
	results []selfResult
}

// run runs f, whose sub-tests are the tests. When ctx ends, those that have
// not begun are not run.
func (s *selfSuite) run(ctx context.Context, f func(hcstest.T)) {
	root := &selfT{suite: s}
	root.do(ctx, f)
	if r := root.result(0); !r.OK && (len(r.Log) > 0 || len(s.results) == 0) {
		r.Name = "suite"
		s.record(r) // it failed outside of its tests
	}
}

// record keeps and prints a result.
func (s *selfSuite) record(r selfResult) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.results = append(s.results, r)
	state := "ok"
	if !r.OK {
		state = "FAIL"
	}
	fmt.Fprintf(s.out, "%-5s%s%s (%.2f s)\n", state, strings.Repeat("  ", strings.Count(r.Name, "/")), r.Name, r.Seconds)
	for _, line := range r.Log {
		fmt.Fprintf(s.out, "\t%s\n", strings.ReplaceAll(line, "\n", "\n\t"))
	}
}

// A selfT is one test. It keeps what hcstest.T says of *testing.T.
type selfT struct {
	suite  *selfSuite
	parent *selfT // nil for the one that has the tests
	name   string
	ctx    context.Context // ends before the clean-ups

	mu      sync.Mutex
	failed  bool
	log     []string
	cleanup []func()
}

var _ hcstest.T = (*selfT)(nil)

// do runs f to its end, however that comes, and then the clean-ups.
func (t *selfT) do(ctx context.Context, f func(hcstest.T)) {
	var cancel context.CancelFunc
	t.ctx, cancel = context.WithCancel(ctx)
	t.guard(func() { f(t) })
	cancel()
	for {
		t.mu.Lock()
		n := len(t.cleanup)
		if n == 0 {
			t.mu.Unlock()
			return
		}
		last := t.cleanup[n-1]
		t.cleanup = t.cleanup[:n-1]
		t.mu.Unlock()
		t.guard(last)
	}
}

// guard runs f in a goroutine of its own, which Fatalf ends. A panic fails the
// test.
func (t *selfT) guard(f func()) {
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		defer func() {
			if p := recover(); p != nil {
				t.Errorf("panic: %v\n%s", p, debug.Stack())
			}
		}()
		f()
	}()
	wg.Wait()
}

func (t *selfT) result(took time.Duration) selfResult {
	t.mu.Lock()
	defer t.mu.Unlock()
	return selfResult{Name: t.name, OK: !t.failed, Seconds: took.Seconds(), Log: slices.Clone(t.log)}
}

// Run implements hcstest.T. A test that is not asked for has passed.
func (t *selfT) Run(name string, f func(hcstest.T)) bool {
	if t.parent == nil && !t.suite.only.MatchString(name) || t.ctx.Err() != nil {
		return true
	}
	c := &selfT{suite: t.suite, parent: t, name: strings.ReplaceAll(name, " ", "_")}
	if t.name != "" {
		c.name = t.name + "/" + c.name
	}
	began := time.Now()
	c.do(t.ctx, f)
	r := c.result(time.Since(began))
	t.suite.record(r)
	return r.OK
}

// Name implements hcstest.T.
func (t *selfT) Name() string { return t.name }

// Helper implements hcstest.T. Reports have no lines of source.
func (t *selfT) Helper() {}

// Context implements hcstest.T.
func (t *selfT) Context() context.Context { return t.ctx }

// TempDir implements hcstest.T.
func (t *selfT) TempDir() string {
	dir, err := os.MkdirTemp("", "byre-selftest-*")
	if err != nil {
		t.Fatalf("making a folder: %v", err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("removing the folder of the test: %v", err)
		}
	})
	return dir
}

// Cleanup implements hcstest.T.
func (t *selfT) Cleanup(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cleanup = append(t.cleanup, f)
}

// Failed implements hcstest.T.
func (t *selfT) Failed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failed
}

// Logf implements hcstest.T.
func (t *selfT) Logf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.log = append(t.log, fmt.Sprintf(format, args...))
}

// Errorf implements hcstest.T.
func (t *selfT) Errorf(format string, args ...any) {
	t.Logf(format, args...)
	for ; t != nil; t = t.parent {
		t.mu.Lock()
		t.failed = true
		t.mu.Unlock()
	}
}

// Fatalf implements hcstest.T.
func (t *selfT) Fatalf(format string, args ...any) {
	t.Errorf(format, args...)
	runtime.Goexit()
}
