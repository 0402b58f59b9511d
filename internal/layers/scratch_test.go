package layers

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestScratch(t *testing.T) {
	for _, size := range []int64{MinScratch, MinScratch + 12345, 64 << 20, 128 << 20, 128<<20 + 4096, 130 << 20,
		1 << 30, 2<<30 + 128<<20, 2<<30 + 4096, 5 << 30, DefaultScratch, 1 << 40, MaxScratch} {
		begin := time.Now()
		p, err := NewScratch(t.TempDir(), size)
		if err != nil {
			t.Errorf("%d: %v", size, err)
			continue
		}
		took := time.Since(begin)
		fi, _ := os.Stat(p)
		t.Logf("%d: %v, on disk %d", size, took, diskUse(fi))
		if size > 1<<40 {
			continue
		}
		out, err := exec.Command("e2fsck", "-fn", p).CombinedOutput()
		if err != nil {
			t.Errorf("%d: e2fsck: %v\n%.2000s", size, err, out)
		}
	}
}
