package qemu

import (
	"fmt"

	"github.com/byrevm/byre/hcsschema"
)

const (
	screenFile   = "screen.sock" // in the folder of the system
	screenWidth  = 1024
	screenHeight = 768
	maxScreen    = 4096
)

// setScreen gives the machine a screen, whose keyboard it has always had.
func (m *machine) setScreen(vm *hcsschema.VirtualMachine) error {
	if vm.Devices == nil || vm.Devices.VideoMonitor == nil {
		return nil
	}
	s := *vm.Devices.VideoMonitor
	if s.HorizontalResolution == 0 && s.VerticalResolution == 0 {
		s.HorizontalResolution, s.VerticalResolution = screenWidth, screenHeight
	}
	if x, y := s.HorizontalResolution, s.VerticalResolution; x < 64 || y < 64 || x > maxScreen || y > maxScreen {
		return fmt.Errorf("a screen of %d by %d: from 64 to %d are possible", x, y, maxScreen)
	}
	m.screen = &s
	return nil
}
