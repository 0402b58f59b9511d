package layers

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand"
	"os"
	"testing"
)

func BenchmarkConvert(b *testing.B) {
	for _, tt := range []struct {
		name        string
		files, size int
		pack        bool
	}{{"small", 20000, 2000, false}, {"smallgz", 20000, 2000, true}, {"big", 20, 10 << 20, false}, {"biggz", 20, 10 << 20, true}} {
		b.Run(tt.name, func(b *testing.B) {
			rnd := rand.New(rand.NewSource(1))
			var es []tarEntry
			for d := range 200 {
				es = append(es, dir(fmt.Sprintf("d%d", d)))
			}
			for i := range tt.files {
				body := make([]byte, tt.size)
				for j := range body {
					body[j] = byte(rnd.Intn(30)) + 'a'
				}
				es = append(es, file(fmt.Sprintf("d%d/f%d", i%200, i), string(body)))
			}
			raw := tarOf(b, es...)
			packed := raw
			if tt.pack {
				packed = gz(b, raw)
			}
			b.SetBytes(int64(len(raw)))
			b.ResetTimer()
			for range b.N {
				f, err := os.CreateTemp(b.TempDir(), "")
				if err != nil {
					b.Fatal(err)
				}
				c := conversion{diffID: sha(raw), open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(packed)), nil },
					maxSize: 1 << 40, maxFiles: 1 << 20}
				if _, err := c.run(context.Background(), f); err != nil {
					b.Fatal(err)
				}
				if _, err := recordOf(f); err != nil {
					b.Fatal(err)
				}
				f.Close()
			}
		})
	}
}
