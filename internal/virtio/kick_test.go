//go:build linux

package virtio

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/virtio/virtiotest"
)

// A ring that is stopped and started with the same eventfd loses no kick, however
// late who waited for the old one lets go.
func TestKickAgain(t *testing.T) {
	b := NewBackend(nil, Model{})
	event := virtiotest.Eventfd(t)
	kick := func() *Kick {
		fd, err := unix.Dup(int(event.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		k, err := newKick(fd)
		if err != nil {
			t.Fatal(err)
		}
		k.of = b
		b.kicks.Add(1)
		return k
	}
	old := kick()
	event.Write(virtiotest.Words64(1))
	old.close()
	again := kick()
	event.Write(virtiotest.Words64(1))
	old.Free()
	woken := make(chan bool)
	go func() { woken <- b.Wait(again) }()
	if !within(t, woken) {
		t.Error("the ring was stopped")
	}
	again.close()
	if b.Wait(again) {
		t.Error("a kick after the end")
	}
	again.Free()
	b.kicks.Wait()
}
