package internal_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/byrevm/byre/"

// allowed says which packages of this module a package may import. It is the
// table in ARCHITECTURE.md, which TestImportTable holds against it.
var allowed = map[string]string{
	"hcsschema":                   "",
	"stats":                       "",
	"internal/vsock":              "",
	"internal/virtio":             "",
	"internal/virtio/virtiotest":  "",
	"internal/hostfs":             "",
	"internal/engine/qemu/qmp":    "",
	"internal/layers":             "",
	"internal/bootfiles":          "",
	"internal/place":              "",
	"internal/pipe":               "",
	"internal/usernet":            "",
	"internal/lockwait":           "",
	"schema1":                     "hcsschema",
	"cow":                         "hcsschema schema1",
	"internal/vsock/vhostuser":    "internal/vsock internal/virtio",
	"internal/p9":                 "internal/hostfs",
	"internal/virtiofs":           "internal/virtio internal/hostfs",
	"hns":                         "hcsschema internal/usernet",
	"hns/hnstest":                 "hns hcsschema",
	"hcs":                         "hcsschema schema1 cow",
	"hcs/hcstest":                 "hcs hcsschema schema1 cow internal/bridge",
	"internal/bridge":             "hcsschema schema1 cow",
	"internal/engine/computecore": "hcs hcsschema schema1 cow hns",
	"internal/engine/qemu":        "hcs hcsschema hns internal/hostfs internal/lockwait internal/p9 internal/pipe internal/place internal/virtiofs internal/vsock internal/vsock/vhostuser internal/engine/qemu/qmp",
	"internal/engine":             "hcs hns internal/engine/computecore internal/engine/qemu",
	"uvm":                         "hcs hcsschema schema1 cow hns stats internal/bridge internal/engine internal/pipe internal/place",
	"container":                   "hcs hcsschema schema1 uvm cow hns internal/layers",
	"internal/guest":              "internal/bridge hcsschema schema1 internal/lockwait internal/pipe internal/place internal/vsock",
	"internal/shim":               "container hcs hcsschema schema1 uvm cow hns stats",
	"cmd/byre":                    "container hcs hcs/hcstest hcsschema cow stats internal/engine uvm internal/bootfiles hns internal/layers internal/shim/client",
	"cmd/gcs":                     "internal/guest internal/vsock",
	"cmd/containerd-shim-byre-v1": "internal/shim",
}

// inherit lists the packages whose sub-packages follow the same rule and may
// import each other.
var inherit = []string{"internal/guest", "internal/shim", "cmd/byre"}

// free are the folders whose packages may import anything.
var free = []string{"bench", "hack", "test"}

// forTests may be imported by any test.
var forTests = []string{"hcs/hcstest", "hns/hnstest", "internal/virtio/virtiotest"}

type pkg struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

func TestImports(t *testing.T) {
	for _, goos := range []string{"linux", "windows"} {
		for _, p := range list(t, goos) {
			name := strings.TrimPrefix(p.ImportPath, module)
			if top, _, _ := strings.Cut(name, "/"); slices.Contains(free, top) {
				continue
			}
			if name == "internal" { // this test
				continue
			}
			rule, family, ok := ruleOf(name)
			if !ok {
				t.Errorf("%s: the table in ARCHITECTURE.md has no row for %s", goos, name)
				continue
			}
			may := strings.Fields(rule)
			check := func(imports []string, test bool) {
				for _, i := range imports {
					i, ours := strings.CutPrefix(i, module)
					if !ours || i == name || slices.ContainsFunc(may, func(m string) bool { return covers(m, i) }) || (family != "" && (i == family || strings.HasPrefix(i, family+"/"))) {
						continue
					}
					if test && (slices.Contains(forTests, i) || !strings.Contains("/"+i, "/internal/") || strings.HasPrefix(i, "internal/imports")) {
						continue
					}
					t.Errorf("%s: %s imports %s, which the table in ARCHITECTURE.md does not allow", goos, name, i)
				}
			}
			check(p.Imports, false)
			check(append(p.TestImports, p.XTestImports...), true)
		}
	}
}

// TestImportTable holds the map against the table in ARCHITECTURE.md.
func TestImportTable(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	table := make(map[string]string)
	for line := range strings.SplitSeq(string(b), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) != 4 || !strings.HasPrefix(strings.TrimSpace(cells[1]), "`") {
			continue
		}
		may := strings.NewReplacer("`", "", ",", "").Replace(strings.TrimSpace(cells[2]))
		if may == "none" {
			may = ""
		}
		for name := range strings.SplitSeq(strings.NewReplacer("`", "", ",", "").Replace(cells[1]), " ") {
			if name != "" {
				table[name] = may
			}
		}
	}
	for name, may := range allowed {
		if got, ok := table[name]; !ok {
			t.Errorf("ARCHITECTURE.md has no row for %s", name)
		} else if got != may {
			t.Errorf("%s may import %q by ARCHITECTURE.md and %q by the test", name, got, may)
		}
	}
	for name := range table {
		if _, ok := allowed[name]; !ok {
			t.Errorf("ARCHITECTURE.md has a row for %s and the test has none", name)
		}
	}
}

// covers reports whether permission to import the package may is one to import
// i: for a family it is for all of its packages.
func covers(may, i string) bool {
	return i == may || (slices.Contains(inherit, may) && strings.HasPrefix(i, may+"/"))
}

// ruleOf returns the packages that name may import, and the family that it
// shares a rule with.
func ruleOf(name string) (rule, family string, ok bool) {
	for _, f := range inherit {
		if name == f || strings.HasPrefix(name, f+"/") {
			return allowed[f], f, true
		}
	}
	rule, ok = allowed[name]
	return rule, "", ok
}

func list(t *testing.T, goos string) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports,TestImports,XTestImports", module+"...")
	cmd.Env = append(os.Environ(), "GOOS="+goos, "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list for %s: %v", goos, err)
	}
	var ps []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
	if len(ps) < 10 {
		t.Fatalf("go list for %s found %d packages", goos, len(ps))
	}
	return ps
}
