package place

import (
	"strconv"
	"testing"

	"github.com/Microsoft/go-winio/pkg/guid"
)

func TestSCSIController(t *testing.T) {
	space, err := guid.FromString("d422512d-2bf2-4752-809d-7b82b5fcb1b4")
	if err != nil {
		t.Fatal(err)
	}
	for c := range MaxSCSIControllers {
		want, err := guid.NewV5(space, []byte(strconv.Itoa(c)))
		if got := SCSIController(c); got != want.String() || err != nil {
			t.Errorf("controller %d: got %s, want %s (%v)", c, got, want, err)
		}
	}
}
