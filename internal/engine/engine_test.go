package engine

import (
	"errors"
	"runtime"
	"testing"

	"github.com/byrevm/byre/hcs"
)

func TestHost(t *testing.T) {
	e := Host()
	if e != Host() {
		t.Error("two calls give two engines")
	}
	if n := e.Host().Processors; n < 1 {
		t.Errorf("%d processors", n)
	}
	switch runtime.GOOS {
	case "linux":
		if h := e.Host(); h.Build != 19041 || h.DefaultMemoryMB != 1024 || len(h.BootFiles) == 0 || h.PMemRemovable {
			t.Errorf("got %+v", h)
		}
		return
	case "windows":
		if h := e.Host(); h.Build == 0 || h.DefaultMemoryMB != 1024 || len(h.BootFiles) == 0 || !h.PMemRemovable {
			t.Errorf("got %+v", h)
		}
		return
	}
	if _, err := e.Create(t.Context(), "vm", nil); !errors.Is(err, hcs.ErrNotSupported) {
		t.Errorf("got %v, want ErrNotSupported", err)
	}
}

func TestChecks(t *testing.T) {
	for _, c := range Checks(t.Context()) {
		if c.Name == "" || c.Detail == "" {
			t.Errorf("%+v says nothing", c)
		}
		t.Logf("%-10s %-5v %s (%s)", c.Name, c.OK, c.Detail, c.Remedy)
	}
}
