//go:build linux

package oci

import (
	"errors"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/byrevm/byre/internal/guest/network"
)

// joinNetwork puts the container into a network namespace of the host's and
// returns how names are resolved there. A pod's must be known; that of a
// container that stands alone may be filled later.
func (p *Prepared) joinNetwork(o Options, namespace string) (dns network.DNS, err error) {
	if namespace == "" || o.DNS == nil {
		return dns, nil
	}
	if dns, err = o.DNS(namespace); err != nil && (p.Kind == Sandbox || !errors.Is(err, network.ErrNoNamespace)) {
		return dns, err
	}
	if o.Join == nil {
		return dns, nil
	}
	path, leave, err := o.Join(namespace)
	if err != nil {
		return dns, err
	}
	p.leave = leave
	ns := specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: path}
	list := p.Spec.Linux.Namespaces
	if i := slices.IndexFunc(list, func(n specs.LinuxNamespace) bool { return n.Type == ns.Type }); i >= 0 {
		list[i] = ns
		return dns, nil
	}
	p.Spec.Linux.Namespaces = append(list, ns)
	return dns, nil
}
