package container

import (
	"testing"
	"time"
)

// SetEndPatience shortens for a test how long the end of a VM is waited for.
func SetEndPatience(t *testing.T, d time.Duration) {
	before := endPatience
	endPatience = d
	t.Cleanup(func() { endPatience = before })
}
