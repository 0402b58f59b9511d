package hns

import (
	"errors"
	"fmt"
	"strings"

	"github.com/Microsoft/go-winio/pkg/guid"
)

// hcnDefaultSwitch is the network that Windows clients have with Hyper-V. It
// is as good as a NAT network for somebody who names none.
const hcnDefaultSwitch = "Default Switch"

// network returns the network that e names: by its id, or by its name, which
// may have the form of a bridge that is there already.
func (h *hcn) network(e *HNSEndpoint) (id guid.GUID, name string, err error) {
	want := e.VirtualNetwork
	if g, err := guid.FromString(CanonicalID(want)); err == nil {
		var n hcnNetwork
		if err := h.query(hcnNetworks, g, &n); err != nil {
			return id, "", fmt.Errorf("network %s: %w", want, err)
		}
		if e.VirtualNetworkName != "" && !strings.EqualFold(e.VirtualNetworkName, n.Name) {
			return id, "", fmt.Errorf("network %s is called %.80q, not %.80q: %w", want, n.Name, e.VirtualNetworkName, ErrNotFound)
		}
		return g, n.Name, nil
	}
	switch {
	case want == "":
		want = e.VirtualNetworkName
	case e.VirtualNetworkName != "" && e.VirtualNetworkName != want:
		return id, "", fmt.Errorf("network %.80q is not called %.80q: %w", want, e.VirtualNetworkName, ErrNotSupported)
	}
	if want == "" {
		want = NAT
	}
	kind, of, named := strings.Cut(want, ":")
	switch {
	case kind == Bridge && of != "":
		want = of
	case want == Bridge || kind == CNI && named:
		return id, "", fmt.Errorf("network %.80q: %w on Windows", want, ErrNotSupported)
	}
	return h.networkNamed(want)
}

func (h *hcn) networkNamed(want string) (id guid.GUID, name string, err error) {
	ids, err := h.list(hcnNetworks)
	if err != nil {
		return id, "", err
	}
	var found, names []string
	byName := func(want string) (n int) {
		for i, name := range names {
			if strings.EqualFold(name, want) {
				n++
				id, found = ids[i], append(found, name)
			}
		}
		return n
	}
	for _, g := range ids {
		var n hcnNetwork
		if err := h.query(hcnNetworks, g, &n); err != nil && !errors.Is(err, ErrNotFound) {
			return id, "", err
		}
		names = append(names, n.Name) // "" if it has just been removed
	}
	n := byName(want)
	if n == 0 && want == NAT {
		n = byName(hcnDefaultSwitch)
	}
	switch {
	case n == 0:
		return id, "", fmt.Errorf("network %.80q: %w (there are %.300q)", want, ErrNotFound, names)
	case n > 1:
		return id, "", fmt.Errorf("more than one network has the name %.80q: say its id", want)
	}
	return id, found[0], nil
}

// networkName returns the name of a network, or "" if it is gone.
func (h *hcn) networkName(id string) (string, error) {
	g, err := hcnID(id)
	if err != nil { // an endpoint that has lost its network
		return "", nil
	}
	var n hcnNetwork
	if err := h.query(hcnNetworks, g, &n); err != nil && !errors.Is(err, ErrNotFound) {
		return "", fmt.Errorf("network %s: %w", id, err)
	}
	return n.Name, nil
}
