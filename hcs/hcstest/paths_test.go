package hcstest

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

var update = flag.Bool("update", false, "write the table of resource paths")

// The column of this engine in the documentation.
func TestPaths(t *testing.T) {
	e := New(Config{Host: hcs.HostInfo{}, Boot: (&Guest{Program: Sleep}).Boot})
	paths := Paths(Wrap(t), fixture(e))
	CheckTable(Wrap(t), filepath.Join("..", "..", "docs", "hcs.md"), "in memory", paths, *update)
}

func TestSetColumn(t *testing.T) {
	const text = "# x\n\n| resource path | one | two |\n|---|---|---|\n| `a/N` | Add | refused |\n| `gone` | Add | Add |\n\nafter\n"
	got, err := setColumn(text, "two", []ResourcePath{
		{"a/N", []hcsschema.RequestType{hcsschema.Add, hcsschema.Remove}}, {"b", nil},
	})
	want := "# x\n\n| resource path | one | two |\n|---|---|---|\n| `a/N` | Add | Add, Remove |\n| `b` | ? | refused |\n\nafter\n"
	if err != nil || got != want {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
	if _, err := setColumn(text, "three", nil); err == nil {
		t.Error("a column that is not there was set")
	}
	if _, err := setColumn("text", "one", nil); err == nil {
		t.Error("a table that is not there was set")
	}
}

// complaints keeps what a test is told in place of failing it.
type complaints struct {
	T
	all []string
}

func (c *complaints) Errorf(format string, args ...any) {
	c.all = append(c.all, fmt.Sprintf(format, args...))
}

// A column that is wrong is an error, and is put right only if asked.
func TestCheckTable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "doc.md")
	if err := os.WriteFile(file, []byte("\n| resource path | one |\n|---|---|\n\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	paths := []ResourcePath{{"a", []hcsschema.RequestType{hcsschema.Add}}}
	r := &complaints{T: Wrap(t)}
	CheckTable(r, file, "one", paths, false)
	if len(r.all) != 1 || !strings.Contains(r.all[0], "-update") {
		t.Errorf("got %q, want one hint", r.all)
	}
	CheckTable(Wrap(t), file, "one", paths, true)
	CheckTable(Wrap(t), file, "one", paths, false)
}
