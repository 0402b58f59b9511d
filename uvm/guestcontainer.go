package uvm

import (
	"context"

	"github.com/byrevm/byre/cow"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/schema1"
)

// A guestContainer is a container of the guest whose calls fail with
// [hcs.ErrStopped] when the guest is gone, as those of its VM do.
type guestContainer struct {
	cow.Container
	vm *UtilityVM
}

func (c *guestContainer) CreateProcess(ctx context.Context, config any) (cow.Process, error) {
	p, err := c.Container.CreateProcess(ctx, config)
	if err != nil {
		return nil, c.vm.guestError(err)
	}
	return p, nil
}

func (c *guestContainer) Start(ctx context.Context) error {
	return c.vm.guestError(c.Container.Start(ctx))
}

func (c *guestContainer) Shutdown(ctx context.Context) error {
	return c.vm.guestError(c.Container.Shutdown(ctx))
}

func (c *guestContainer) Terminate(ctx context.Context) error {
	return c.vm.guestError(c.Container.Terminate(ctx))
}

func (c *guestContainer) Properties(ctx context.Context, types ...schema1.PropertyType) (*schema1.ContainerProperties, error) {
	p, err := c.Container.Properties(ctx, types...)
	return p, c.vm.guestError(err)
}

func (c *guestContainer) PropertiesV2(ctx context.Context, types ...hcsschema.PropertyType) (*hcsschema.Properties, error) {
	p, err := c.Container.PropertiesV2(ctx, types...)
	return p, c.vm.guestError(err)
}
