package uvm

import (
	"context"
	"fmt"

	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/bridge"
)

// parentAddress is what a Windows guest calls its host on hvsock.
const parentAddress = "894cc2d6-9d79-424f-93fe-42969ae6d8d1"

// addressGuest tells a Windows guest that asks for it which addresses it and
// its host have on hvsock (spec §6 B71).
func (vm *UtilityVM) addressGuest(ctx context.Context, c *bridge.Client) error {
	if vm.os != "windows" || !c.GuestCapabilities().HvSocketConfigOnStartup {
		return nil
	}
	err := c.Modify(ctx, &hcsschema.GuestRequest{
		RequestType:  hcsschema.Update,
		ResourceType: hcsschema.ResourceHvSocket,
		Settings: hcsschema.HvSocketAddress{
			LocalAddress:  vm.sys.RuntimeID().String(),
			ParentAddress: parentAddress,
		},
	})
	if err != nil {
		return fmt.Errorf("telling the guest its addresses: %w", err)
	}
	return nil
}
