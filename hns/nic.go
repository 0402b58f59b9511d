package hns

import (
	"context"
	"os"
)

// An Opener is a [Network] whose endpoints an engine can connect NICs to.
// [Host] is one where the engine does that work itself: on Linux.
type Opener interface {
	// OpenNIC opens the host's end of an endpoint. The caller closes it. An
	// endpoint has one NIC at a time: for the second, OpenNIC fails with
	// [ErrAlreadyExists].
	OpenNIC(ctx context.Context, endpointID string) (*NIC, error)
}

// A NIC is the host's end of an endpoint. What it holds in this process, the
// published ports for example, lasts until Close, also after the endpoint has
// been removed.
type NIC struct {
	// Link is a tap with headers of virtio-net if Tap is set. Else it is a
	// stream socket, which carries frames, each after its length in four
	// bytes, big-endian, as network back-ends of QEMU do. Who has given it to
	// QEMU may close it.
	Link *os.File
	Tap  bool
	// MTU is the largest packet that the network carries.
	MTU int
	// MAC is the endpoint's, with colons.
	MAC string

	close func() error
}

// Close ends what the NIC holds. A second call does nothing.
func (n *NIC) Close() error {
	if n.close == nil {
		return nil
	}
	end := n.close
	n.close = nil
	return end()
}
