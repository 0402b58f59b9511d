package uvm

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/Microsoft/go-winio/pkg/guid"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/hns"
)

// A netNS is a network namespace of the guest and the NICs in it, in the
// order in which they were added. It is guarded by its key in vm.namespaces.
type netNS struct {
	id   string
	host *hns.HostComputeNamespace // as a Windows guest was told of it, or nil
	nics []*nic

	// calledOff has the ids of NICs whose Add was called off, by endpoint: the
	// host may still be taking one out, and whoever adds it again by the same
	// id waits for that.
	calledOff map[string]guid.GUID
}

// A nic is an endpoint of the host's network in the guest.
type nic struct {
	endpoint string // canonical id
	*attachment
}

// AddNetNS adds the network namespace id to the guest, without endpoints. A
// Windows guest is told what the host's network says of it, if it wants to
// know; a namespace that the host's network does not have is an error then,
// and a Linux guest does not care. A namespace that was added before is
// [ErrNetNSAlreadyAttached], unwrapped. On error nothing is added.
func (vm *UtilityVM) AddNetNS(ctx context.Context, id string) error {
	return vm.carry(ctx, func(*call) error {
		_, err := vm.namespaces.acquire(ctx, hns.CanonicalID(id),
			func() (*netNS, error) {
				ns := &netNS{id: id}
				return ns, vm.tellNetNS(ctx, ns)
			},
			func(ns *netNS) (*netNS, error) { return ns, ErrNetNSAlreadyAttached })
		return err
	}, func(ctx context.Context) error { return vm.RemoveNetNS(ctx, id) })
}

// RemoveNetNS removes the network namespace id, with the endpoints in it, from
// the guest. It goes on past an endpoint that it cannot remove; it can then
// be called again. A namespace that is not there is no error.
func (vm *UtilityVM) RemoveNetNS(ctx context.Context, id string) error {
	err := vm.carry(ctx, func(*call) error {
		return vm.namespaces.release(ctx, hns.CanonicalID(id), func(ns *netNS) error {
			if err := vm.removeNICs(ctx, ns, func(*nic) bool { return true }); err != nil {
				return err
			}
			return vm.untellNetNS(ctx, ns)
		})
	}, nil)
	if errors.Is(err, ErrNotAttached) {
		return nil
	}
	return err
}

// AddEndpointsToNS adds endpoints to the network namespace id of the guest.
// Those that are in it are left alone. It stops at the first that it cannot
// add; those before it stay. A namespace that was not added is
// [ErrNetNSNotFound], unwrapped.
func (vm *UtilityVM) AddEndpointsToNS(ctx context.Context, id string, endpoints []*hns.HNSEndpoint) error {
	return vm.withNetNS(ctx, id, func(ns *netNS) error {
		for _, e := range endpoints {
			key := hns.CanonicalID(e.Id)
			if slices.ContainsFunc(ns.nics, func(n *nic) bool { return n.endpoint == key && !n.letGo }) {
				continue
			}
			if err := vm.removeNICs(ctx, ns, func(n *nic) bool { return n.endpoint == key }); err != nil {
				return err // what an earlier Remove has left
			}
			n, err := vm.addNIC(ctx, ns, e)
			if n != nil {
				ns.nics = append(ns.nics, n)
			}
			if err != nil {
				return fmt.Errorf("adding endpoint %s: %w", e.Id, err)
			}
		}
		return nil
	})
}

// RemoveEndpointsFromNS takes endpoints out of the network namespace id of the
// guest, in the order of the list. Those that are not in it are no error. It
// goes on past one that it cannot remove; it can then be called again. A
// namespace that was not added is [ErrNetNSNotFound], unwrapped.
func (vm *UtilityVM) RemoveEndpointsFromNS(ctx context.Context, id string, endpoints []*hns.HNSEndpoint) error {
	return vm.withNetNS(ctx, id, func(ns *netNS) error {
		var errs []error
		for _, e := range endpoints {
			key := hns.CanonicalID(e.Id)
			errs = append(errs, vm.removeNICs(ctx, ns, func(n *nic) bool { return n.endpoint == key }))
		}
		return errors.Join(errs...)
	})
}

// withNetNS calls f with a namespace that nobody else uses meanwhile.
func (vm *UtilityVM) withNetNS(ctx context.Context, id string, f func(*netNS) error) error {
	err := vm.carry(ctx, func(*call) error { return vm.namespaces.use(ctx, hns.CanonicalID(id), f) }, nil)
	if errors.Is(err, ErrNotAttached) {
		return ErrNetNSNotFound
	}
	return err
}

// addNIC connects the guest to an endpoint. If that fails and the host does
// not take the NIC back, it returns what is left of it, too.
func (vm *UtilityVM) addNIC(ctx context.Context, ns *netNS, e *hns.HNSEndpoint) (*nic, error) {
	key := hns.CanonicalID(e.Id)
	id, again := ns.calledOff[key]
	if !again {
		var err error
		if id, err = guid.NewV4(); err != nil {
			return nil, err
		}
	}
	adapter := hcsschema.NetworkAdapter{EndpointId: e.Id, MacAddress: e.MacAddress}
	a := &attachment{path: hcs.NetworkPath(id.String()), settings: adapter}
	req := &hcsschema.ModifySettingRequest{RequestType: hcsschema.Add, ResourcePath: a.path, Settings: adapter}
	_, caps := vm.Capabilities()
	switch {
	case vm.os == "windows":
		if err := vm.announceNIC(ctx, id.String(), e); err != nil {
			return nil, err
		}
		req.GuestRequest = vm.windowsNIC(id.String(), hcsschema.Add, nil)
		a.guest = vm.windowsNIC(id.String(), hcsschema.Remove, nil)
	case caps.NamespaceAddRequestSupported:
		s := guestNIC(id.String(), ns, e)
		req.GuestRequest = &hcsschema.GuestRequest{RequestType: hcsschema.Add, ResourceType: hcsschema.ResourceNetwork, Settings: s}
		a.guest = &hcsschema.GuestRequest{
			RequestType:  hcsschema.Remove,
			ResourceType: hcsschema.ResourceNetwork,
			Settings:     hcsschema.LCOWNetworkAdapter{NamespaceID: s.NamespaceID, ID: s.ID},
		}
	}
	err := vm.modify(ctx, req)
	switch {
	case !unanswered(err):
		delete(ns.calledOff, key)
	case ns.calledOff == nil:
		ns.calledOff = map[string]guid.GUID{key: id}
	default:
		ns.calledOff[key] = id
	}
	if err != nil && vm.os == "windows" {
		vm.disownNIC(ctx, a.guest)
	}
	var half *halfDone
	if a.letGo = errors.As(err, &half) && half.host; err != nil && !a.letGo {
		return nil, err
	}
	return &nic{key, a}, err
}

// guestNIC is how a Linux guest configures the NIC id.
func guestNIC(id string, ns *netNS, e *hns.HNSEndpoint) hcsschema.LCOWNetworkAdapter {
	s := hcsschema.LCOWNetworkAdapter{
		NamespaceID:     ns.id,
		ID:              id,
		MacAddress:      e.MacAddress,
		PrefixLength:    e.PrefixLength,
		GatewayAddress:  e.GatewayAddress,
		DNSSuffix:       e.DNSSuffix,
		DNSServerList:   e.DNSServerList,
		EnableLowMetric: e.EnableLowMetric,
		EncapOverhead:   e.EncapOverhead,
	}
	if e.Namespace != nil && e.Namespace.ID != "" {
		s.NamespaceID = e.Namespace.ID
	}
	if e.IPAddress != nil { // without one the guest asks DHCP
		s.IPAddress = e.IPAddress.String()
	}
	s.IPConfigs, s.Routes = moreOf(e)
	return s
}

// removeNICs removes the NICs that which is true for, as far as it can.
func (vm *UtilityVM) removeNICs(ctx context.Context, ns *netNS, which func(*nic) bool) error {
	var errs []error
	ns.nics = slices.DeleteFunc(ns.nics, func(n *nic) bool {
		if !which(n) {
			return false
		}
		if err := vm.detach(ctx, n.attachment); err != nil {
			errs = append(errs, fmt.Errorf("removing endpoint %s: %w", n.endpoint, err))
			return false
		}
		return true
	})
	return errors.Join(errs...)
}
