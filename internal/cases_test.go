package internal_test

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestCasesAreDocumented holds docs/cases.md against the tests: it has every
// case of the specification, in order, and the tests that it names are there.
func TestCasesAreDocumented(t *testing.T) {
	const cases = 92
	b, err := os.ReadFile(filepath.Join("..", "docs", "cases.md"))
	if err != nil {
		t.Fatal(err)
	}
	quoted := regexp.MustCompile("`([^`]+)`")
	sources := make(map[string]string)
	next := 1
	for line := range strings.Lines(string(b)) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 6 {
			continue
		}
		n, err := strconv.Atoi(strings.TrimSpace(cells[1]))
		if err != nil {
			continue // the head
		}
		if n != next {
			t.Errorf("case %d stands where %d should", n, next)
		}
		next = n + 1
		tests, reason := quoted.FindAllStringSubmatch(cells[3], -1), strings.TrimSpace(cells[4])
		if len(tests) == 0 && reason == "" {
			t.Errorf("case %d has neither a test nor a reason", n)
		}
		for _, m := range tests {
			dir, name := path.Split(m[1])
			if sources[dir] == "" {
				sources[dir] = testSources(t, dir)
			}
			if !strings.Contains(sources[dir], "func "+name+"(") {
				t.Errorf("case %d: there is no test %s", n, m[1])
			}
		}
	}
	if next != cases+1 {
		t.Errorf("%d cases, want %d", next-1, cases)
	}
}

// testSources returns the tests of a folder of the module.
func testSources(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", filepath.FromSlash(dir), "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	return all.String()
}
