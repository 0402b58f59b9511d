package lockwait

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
)

func TestConversation(t *testing.T) {
	host, agent := net.Pipe()
	done := make(chan error)
	go func() { done <- Answer(agent, func(thread uint32) bool { return thread%2 == 1 }) }()
	all := make([]uint32, Max)
	for i := range all {
		all[i] = uint32(i + 1)
	}
	for _, c := range []struct {
		threads []uint32
		want    []int
	}{
		{nil, nil}, {[]uint32{2}, nil}, {[]uint32{1}, []int{0}}, {[]uint32{2, 0xffffffff, 0, 3}, []int{1, 3}},
		{all[Max-2:], []int{0}}, {append([]uint32{2}, all[:Max-1]...), []int{1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31, 33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63}},
	} {
		got, err := Ask(host, c.threads)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%v: got %v, %v, want %v", c.threads, got, err, c.want)
		}
	}
	if _, err := Ask(host, make([]uint32, Max+1)); err == nil {
		t.Error("too many threads were asked for")
	}
	host.Close()
	if err := <-done; !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want %v", err, io.EOF)
	}
}

// stream is what the other end sends, and takes everything.
type stream struct{ io.Reader }

func (stream) Write(b []byte) (int, error) { return len(b), nil }

// A guest may answer what it likes: it names only what it was asked for.
func FuzzAsk(f *testing.F) {
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, uint8(3))
	f.Add([]byte{1, 2, 3}, uint8(1))
	f.Fuzz(func(t *testing.T, answer []byte, n uint8) {
		threads := make([]uint32, int(n)%(Max+1))
		got, err := Ask(stream{bytes.NewReader(answer)}, threads)
		if (err == nil) != (len(answer) >= 8) {
			t.Errorf("%d bytes: %v", len(answer), err)
		}
		if len(got) > len(threads) || !slices.IsSorted(got) || len(got) > 0 && got[len(got)-1] >= len(threads) {
			t.Errorf("%d threads: got %v", len(threads), got)
		}
	})
}
