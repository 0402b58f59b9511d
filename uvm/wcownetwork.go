package uvm

import (
	"context"
	"fmt"

	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/hns"
)

// buildAdapterID is the Windows build from which on a guest knows a NIC by
// AdapterId.
const buildAdapterID = 17763

// tellNetNS tells a Windows guest of a namespace that it is to have, if it
// takes such requests.
func (vm *UtilityVM) tellNetNS(ctx context.Context, ns *netNS) error {
	if _, caps := vm.Capabilities(); vm.os != "windows" || !caps.NamespaceAddRequestSupported {
		return nil
	}
	host, err := vm.network.Namespace(ctx, ns.id)
	if err != nil {
		return fmt.Errorf("looking up network namespace %s: %w", ns.id, err)
	}
	if err := vm.modifyNetNS(ctx, hcsschema.Add, host); err != nil {
		if unanswered(err) {
			back, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
			defer cancel()
			if err2 := vm.modifyNetNS(back, hcsschema.Remove, host); err2 != nil {
				vm.log.WarnContext(ctx, "unanswered guest request not undone", "namespace", ns.id, "err", err2)
			}
		}
		return fmt.Errorf("adding network namespace %s: %w", ns.id, err)
	}
	ns.host = host
	return nil
}

// untellNetNS takes a namespace from a Windows guest. The guest is told what
// the namespace is now, or was, if the host has it no more.
func (vm *UtilityVM) untellNetNS(ctx context.Context, ns *netNS) error {
	if ns.host == nil {
		return nil
	}
	host, err := vm.network.Namespace(ctx, ns.id)
	if err != nil {
		host = ns.host
	}
	if err := vm.modifyNetNS(ctx, hcsschema.Remove, host); err != nil {
		return fmt.Errorf("removing network namespace %s: %w", ns.id, err)
	}
	return nil
}

func (vm *UtilityVM) modifyNetNS(ctx context.Context, t hcsschema.RequestType, ns *hns.HostComputeNamespace) error {
	return vm.modify(ctx, &hcsschema.ModifySettingRequest{GuestRequest: &hcsschema.GuestRequest{
		RequestType:  t,
		ResourceType: hcsschema.ResourceNetworkNamespace,
		Settings:     ns,
	}})
}

// announceNIC tells a Windows guest what the NIC id will be, before the host
// adds it.
func (vm *UtilityVM) announceNIC(ctx context.Context, id string, e *hns.HNSEndpoint) error {
	req := vm.windowsNIC(id, hcsschema.PreAdd, e)
	err := vm.modify(ctx, &hcsschema.ModifySettingRequest{GuestRequest: req})
	if err != nil {
		if unanswered(err) {
			vm.disownNIC(ctx, vm.windowsNIC(id, hcsschema.Remove, nil))
		}
		return fmt.Errorf("announcing the NIC: %w", err)
	}
	return nil
}

// disownNIC makes a Windows guest forget a NIC that was announced to it and
// did not come (spec §6 B34).
func (vm *UtilityVM) disownNIC(ctx context.Context, remove *hcsschema.GuestRequest) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	if err := vm.modify(ctx, &hcsschema.ModifySettingRequest{GuestRequest: remove}); err != nil {
		vm.log.WarnContext(ctx, "announced NIC not taken back", "err", err)
	}
}

// windowsNIC is a guest request about a NIC: what is to be done stands in its
// settings, and e with a PreAdd. The request itself only adds and removes.
func (vm *UtilityVM) windowsNIC(id string, t hcsschema.RequestType, e *hns.HNSEndpoint) *hcsschema.GuestRequest {
	var endpoint any
	if e != nil {
		endpoint = e
	}
	req := &hcsschema.GuestRequest{
		RequestType:  hcsschema.Add,
		ResourceType: hcsschema.ResourceNetwork,
		Settings:     hcsschema.NetworkModifyRequest{AdapterId: id, RequestType: t, Settings: endpoint},
	}
	if t == hcsschema.Remove {
		req.RequestType = hcsschema.Remove
	}
	if vm.host.Build < buildAdapterID {
		req.Settings = hcsschema.RS4NetworkModifyRequest{AdapterInstanceId: id, RequestType: t, Settings: endpoint}
	}
	return req
}
