// Package modules inserts kernel modules from the image, by the index that
// docs/guest.md describes.
//
// A [Loader] remembers what it has inserted. The agent inserts the core
// modules at boot and what a mount needs before it mounts; for everything
// else the kernel runs /bin/modprobe, which is the agent's binary again and
// ends in [Loader.Request].
//
//	l, err := modules.Open(modules.IndexPath)
//	err = l.Insert("ext4")
package modules
