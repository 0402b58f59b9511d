package vsock

import "testing"

func TestAddr(t *testing.T) {
	a := Addr{CIDHost, 1 << 30}
	if got, want := a.Network()+" "+a.String(), "vsock 2:1073741824"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if a != (Addr{2, 1 << 30}) {
		t.Error("equal addresses differ")
	}
}
