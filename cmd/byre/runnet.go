package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/byrevm/byre/hns"
)

// A network is what one run has of the host's network; it is nothing if there
// is no session.
type network struct {
	session   hns.Session
	namespace string
	hosts     string // lines for the hosts file
}

// make makes what the plan says. What fails here, such as a port that is in
// use, fails before there is a VM.
func (p networkPlan) make(ctx context.Context) (_ *network, err error) {
	n := &network{}
	gateway := ""
	if p.endpoint != nil {
		if n.session, err = hns.NewSession(); err != nil {
			return nil, err
		}
		defer func() {
			if err != nil {
				err = errors.Join(err, n.close())
			}
		}()
		ns, err := n.session.CreateNamespace(ctx)
		if err != nil {
			return nil, err
		}
		n.namespace = ns.Id
		e := p.endpoint.Clone()
		e.Namespace = &hns.Namespace{ID: ns.Id}
		if e, err = n.session.CreateEndpoint(ctx, e); err != nil {
			return nil, err
		}
		gateway = e.GatewayAddress
	}
	var b strings.Builder
	for _, h := range p.hosts {
		address := gateway
		if h.address.IsValid() {
			address = h.address.String()
		} else if address == "" {
			return nil, fmt.Errorf("--add-host %s: network %s has no gateway", h.name, p.endpoint.VirtualNetwork)
		}
		fmt.Fprintf(&b, "%s %s\n", address, h.name)
	}
	n.hosts = b.String()
	return n, nil
}

// put puts the container of a spec into the network.
func (n *network) put(s *specs.Spec) {
	if n.hosts != "" {
		s.Annotations[annotationHosts] = n.hosts
	}
	if n.session != nil {
		s.Windows = &specs.Windows{Network: &specs.WindowsNetwork{NetworkNamespace: n.namespace}}
	}
}

// of returns the network that the VM is made with, nil for the host's own.
func (n *network) of() hns.Network {
	if n.session == nil {
		return nil
	}
	return n.session
}

// close removes everything, after the VM has gone.
func (n *network) close() error {
	if n.session == nil {
		return nil
	}
	return n.session.Close()
}
