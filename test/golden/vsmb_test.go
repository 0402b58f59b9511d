package golden

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/byrevm/byre/hcs"
)

// TestShares replays programs of calls about shares that nobody recorded: what
// the reference makes of them is worked out here, by its rules (spec §1.10).
// So the rules about shares are held against more than the recordings show.
func TestShares(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "uvm", "testdata", "golden", "wcow-19041-vsmb.json"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	t.Setenv("BYRE_GOLDEN", dir)
	for seed := range uint64(20) {
		rec := make(map[string]any)
		if err := json.Unmarshal(b, &rec); err != nil {
			t.Fatal(err)
		}
		ref := &reference{rand: rand.New(rand.NewPCG(seed, 0)), bothModes: seed%2 == 1, tables: [2]map[string]*refShare{{}, {}}}
		for _, c := range rec["calls"].([]any) {
			if c.(map[string]any)["step"].(float64) < 2 {
				ref.calls = append(ref.calls, c)
			}
		}
		ref.steps = rec["steps"].([]any)[:2]
		for range 40 {
			ref.next()
		}
		rec["calls"], rec["steps"] = ref.calls, ref.steps
		out, err := json.Marshal(rec)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("shares-%d.json", seed)), out, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	Run(t, Config{Rules: filepath.Join("..", "..", "docs", "differences.md")})
}

// A reference does what the reference does, with its defects.
type reference struct {
	rand         *rand.Rand
	bothModes    bool
	tables       [2]map[string]*refShare // of folders, of single files
	names        int
	calls, steps []any
}

type refShare struct {
	name  string
	n     int
	files []string
}

func (r *reference) modify(t string, settings map[string]any) {
	r.calls = append(r.calls, map[string]any{
		"call": "HcsModifyComputeSystem", "system": "uvm-test", "step": len(r.steps),
		"document": map[string]any{"RequestType": t, "ResourcePath": hcs.PathVSMB, "Settings": settings},
	})
}

// next adds a step.
func (r *reference) next() {
	pick := func(s ...string) string { return s[r.rand.IntN(len(s))] }
	path := lab + pick(`\vs\dir1`, `\vs\dir2`, `\vs\files`, `\vs\files\one.txt`, `\vs\files\two.txt`)
	op := pick("AddVSMB", "AddVSMB", "RemoveVSMB", "RemoveVSMB", "GetVSMBUvmPath")
	args := map[string]any{"hostPath": path}
	s := map[string]any{"op": op, "args": args}
	key, name, table := path, "", r.tables[0]
	if strings.HasSuffix(path, ".txt") {
		i := strings.LastIndex(path, `\`)
		key, name, table = path[:i], path[i:], r.tables[1]
	}
	have := table[key]
	switch {
	case op == "AddVSMB":
		options := map[string]any{"ReadOnly": true}
		if r.bothModes && r.rand.IntN(2) == 0 {
			options = map[string]any{"NoLocks": true}
		}
		args["options"] = options
		r.add(table, key, path, name, options)
	case have == nil:
		s["error"] = key + " is not present"
	case op == "GetVSMBUvmPath":
		s["result"] = `\\?\VMSMB\VSMB-{dcc079ae-60ba-4d07-847c-3493609c0870}\` + have.name + name
	default:
		if have.n--; have.n == 0 {
			r.modify("Remove", map[string]any{"Name": have.name})
			delete(table, key)
		}
	}
	r.steps = append(r.steps, s)
}

func (r *reference) add(table map[string]*refShare, key, path, name string, options map[string]any) {
	t, have := "Update", table[key]
	if have == nil {
		r.names++
		have = &refShare{name: fmt.Sprintf("s%x", r.names)}
		t, table[key] = "Add", have
	}
	have.n++
	sent := map[string]any{"Name": have.name, "Path": key, "Options": options}
	if name != "" {
		have.files = append(have.files, path)
		o := map[string]any{"RestrictFileAccess": true, "SingleFileMapping": true}
		for k, v := range options {
			o[k] = v
		}
		sent["Options"], sent["AllowedFiles"] = o, append([]string(nil), have.files...)
	}
	if t == "Add" || name != "" {
		r.modify(t, sent)
	}
}
