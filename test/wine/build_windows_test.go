package wine

import (
	"os"
	"strconv"
	"testing"

	"github.com/byrevm/byre/internal/engine"
)

// The engine of the host is the one for the Host Compute Service, and its
// build the one that Windows says.
func TestHost(t *testing.T) {
	want, err := strconv.Atoi(os.Getenv("BYRE_WINE_BUILD"))
	if err != nil {
		t.Fatalf("BYRE_WINE_BUILD: %v", err)
	}
	if h := engine.Host().Host(); h.Build != want || h.Processors < 1 || !h.PMemRemovable {
		t.Errorf("got %+v, want build %d", h, want)
	}
}
