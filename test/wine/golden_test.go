package wine

import (
	"path/filepath"
	"runtime"
	"testing"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcs/hcstest"
	"github.com/byrevm/byre/internal/engine/computecore"
	"github.com/byrevm/byre/test/golden"
	"github.com/byrevm/byre/test/wine/standin"
)

// A bench has the engine for the Host Compute Service between package uvm and
// what is compared.
type bench struct {
	golden.Bench
	engine *computecore.Engine
}

func (b *bench) Engine() hcs.Engine { return b.engine }

// TestGolden replays the recordings of the reference through the engine. The
// build under Wine is what Windows says it is: of the recordings those of
// this build are replayed.
func TestGolden(t *testing.T) {
	build := 0
	if runtime.GOOS == "windows" {
		build = computecore.New(computecore.Config{}).Host().Build
	}
	n := 0
	golden.Run(t, golden.Config{
		Dir:   filepath.Join("..", "..", "uvm", "testdata", "golden"),
		Rules: filepath.Join("..", "..", "docs", "differences.md"),
		Only:  func(rec *golden.Recording) bool { return build == 0 || rec.Build == build },
		Bench: func(t testing.TB, rec *golden.Recording) golden.Bench {
			n++
			b := golden.Memory(t, rec)
			mem := b.Engine().(*hcstest.Engine)
			s := standin.Start(t, mem, standin.Script{Sync: rec.Fake["FAKEHCS_MODE"] == "sync"})
			return &bench{Bench: b, engine: s.Engine(rec.Host())}
		},
	})
	if n < 50 && !t.Failed() {
		t.Errorf("only %d recordings were replayed", n)
	}
}
