// Package container turns an OCI image, or an OCI spec and disks, into a
// container in a utility VM, and takes it away again.
//
//	img, err := container.OpenImage(ctx, "alpine", container.ImageOptions{})
//	defer img.Close()
//	spec, err := container.NewSpec(img, container.SpecOptions{Args: []string{"uname", "-a"}})
//	c, err := container.Create(ctx, vm, container.Config{Spec: spec, Layers: img.Layers()})
//	defer c.Delete(ctx)
//	err = c.Command().Run()...
//
// A container can also be made of the layer folders that a spec names, as the
// Windows runtimes do it, for guests of both kinds: see [Config].
//
// A layer goes into the VM as a read-only device: persistent memory while
// there is room, a SCSI disk after that. The agent mounts the layers, puts a
// writable scratch disk on top and hands the union to its OCI runtime.
package container
