package container

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/byrevm/byre/hns"
	"github.com/byrevm/byre/uvm"
)

// annotationType tells a container of a pod, which shares what the pod's
// sandbox has, from others.
const annotationType = "io.kubernetes.cri.container-type"

// connecting connects the network while the caller does other things. The
// caller calls finish, once, with what became of those: if that is an error,
// the network is given up, and only what else went wrong with it is returned.
func (k *Container) connecting(ctx context.Context, spec *specs.Spec, n hns.Network) (finish func(error) (string, error)) {
	ctx, cancel := context.WithCancel(ctx)
	side := &Container{vm: k.vm}
	done := make(chan struct{})
	var namespace string
	var err error
	go func() {
		defer close(done)
		namespace, err = side.connect(ctx, spec, n)
	}()
	return func(failed error) (string, error) {
		defer cancel()
		if failed != nil {
			cancel()
		}
		<-done
		k.undo = append(side.undo, k.undo...)
		if failed != nil && errors.Is(err, context.Canceled) {
			err = nil
		}
		return namespace, err
	}
}

// connect gives the guest the network namespace of a spec, with the endpoints
// in it, and returns its id. A spec may name endpoints instead: then they get
// a namespace that goes with the container. "" is no network.
func (k *Container) connect(ctx context.Context, spec *specs.Spec, n hns.Network) (namespace string, err error) {
	if spec.Windows == nil || spec.Windows.Network == nil {
		return "", nil
	}
	if n == nil {
		n = hns.Host()
	}
	w := spec.Windows.Network
	namespace = w.NetworkNamespace
	if namespace == "" {
		if len(w.EndpointList) == 0 {
			return "", nil
		}
		if namespace, err = k.makeNamespace(ctx, n, w.EndpointList); err != nil {
			return "", fmt.Errorf("making a network namespace: %w", err)
		}
	}
	if spec.Annotations[annotationType] == "container" {
		return namespace, nil
	}
	endpoints, err := hns.NamespaceEndpoints(ctx, n, namespace)
	if err != nil {
		return "", fmt.Errorf("looking up the network namespace: %w", err)
	}
	id := namespace // which is "" when this fails
	switch err := k.vm.AddNetNS(ctx, id); {
	case err == nil:
		k.push("disconnecting the network", func(ctx context.Context) error { return k.vm.RemoveNetNS(ctx, id) })
	case !errors.Is(err, uvm.ErrNetNSAlreadyAttached): // else it is somebody else's to remove
		return "", fmt.Errorf("adding the network namespace: %w", err)
	}
	if err := k.vm.AddEndpointsToNS(ctx, namespace, endpoints); err != nil {
		return "", fmt.Errorf("connecting the network: %w", err)
	}
	return namespace, nil
}

// makeNamespace makes a namespace of endpoints.
func (k *Container) makeNamespace(ctx context.Context, n hns.Network, endpoints []string) (string, error) {
	ns, err := n.CreateNamespace(ctx)
	if err != nil {
		return "", err
	}
	gone := func(err error) error {
		if errors.Is(err, hns.ErrNotFound) {
			return nil
		}
		return err
	}
	k.push("removing the network namespace", func(ctx context.Context) error { return gone(n.RemoveNamespace(ctx, ns.Id)) })
	for _, e := range endpoints {
		if err := n.AddToNamespace(ctx, ns.Id, e); err != nil {
			return "", err
		}
		k.push("taking the endpoint out of its namespace", func(ctx context.Context) error { return gone(n.RemoveFromNamespace(ctx, ns.Id, e)) })
	}
	return ns.Id, nil
}
