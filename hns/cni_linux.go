package hns

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// cni is what the plugins of a CNI configuration make: an interface in a
// network namespace of the kernel, which a NIC takes over.
type cni struct{ name string }

// A cniNetwork is a CNI configuration as it was when an endpoint was made, by
// which it is removed, too.
type cniNetwork struct {
	Name, Version string
	Plugins       []json.RawMessage
	Path          []string // folders of plugins
}

const cniInterface = "eth0"

var cniName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)

// cniFolders returns where configurations and plugins are: where others who
// run them look, and where the variables of the reference's own tool say.
func cniFolders() (configs string, plugins []string) {
	if configs = os.Getenv("NETCONFPATH"); configs == "" {
		configs = "/etc/cni/net.d"
	}
	if plugins = filepath.SplitList(os.Getenv("CNI_PATH")); len(plugins) == 0 {
		plugins = []string{"/opt/cni/bin", "/usr/lib/cni"}
	}
	return configs, plugins
}

// complete reads the configuration. The rest is known when the plugins have
// run.
func (c cni) complete(_ *local, _ *state, o *ownedEndpoint) (err error) {
	e := o.Endpoint
	for _, m := range []struct {
		name string
		set  bool
	}{
		{"IPAddress", e.IPAddress != nil}, {"PrefixLength", e.PrefixLength != 0}, {"GatewayAddress", e.GatewayAddress != ""},
		{"MacAddress", e.MacAddress != ""}, {"IPConfigs", len(e.IPConfigs) > 0}, {"Routes", len(e.Routes) > 0}, {"DisableICC", e.DisableICC},
	} {
		if m.set {
			return fmt.Errorf("member %s in network %q, whose plugins decide: %w", m.name, e.VirtualNetwork, ErrNotSupported)
		}
	}
	if o.NetNS, err = identity(); err != nil {
		return err
	}
	if !cniName.MatchString(c.name) {
		return fmt.Errorf("network %.80q: malformed name", e.VirtualNetwork)
	}
	configs, plugins := cniFolders()
	list, err := libcni.LoadNetworkConf(configs, c.name)
	if errors.As(err, new(libcni.NotFoundError)) || errors.As(err, new(libcni.NoConfigsFoundError)) {
		return fmt.Errorf("network %q: %w: %w", e.VirtualNetwork, ErrNotFound, err)
	}
	if err != nil {
		return fmt.Errorf("network %q: %w", e.VirtualNetwork, err)
	}
	n := &cniNetwork{Name: list.Name, Version: list.CNIVersion, Path: plugins}
	mapped := false
	for _, p := range list.Plugins {
		if err := installed(p, plugins); err != nil {
			return fmt.Errorf("network %q: %w", e.VirtualNetwork, err)
		}
		n.Plugins = append(n.Plugins, p.Bytes)
		mapped = mapped || p.Network.Capabilities[cniPorts]
	}
	ports, err := mappings(e)
	if err != nil {
		return err
	}
	if len(ports) > 0 && !mapped {
		return fmt.Errorf("published ports in network %q, which has no plugin for them: %w", e.VirtualNetwork, ErrNotSupported)
	}
	o.CNI = n
	return nil
}

// installed fails if a plugin, or the one that gives it addresses, is not in the
// folders: one that is not there could not remove again what those before it in
// a chain have made.
func installed(p *libcni.PluginConfig, folders []string) error {
	for _, name := range []string{p.Network.Type, p.Network.IPAM.Type} {
		if name == "" {
			continue
		}
		if _, err := invoke.FindInPath(name, folders); err != nil {
			return fmt.Errorf("plugin %q: %w in %s", name, ErrNotFound, strings.Join(folders, ", "))
		}
	}
	return nil
}

// cniPorts is the capability of plugins that publish ports.
const cniPorts = "portMappings"

// A mapping is a published port as the convention of CNI has it.
type mapping struct {
	HostPort      uint16 `json:"hostPort"`
	ContainerPort uint16 `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP"`
}

func mappings(e *HNSEndpoint) (all []mapping, err error) {
	p, err := readPolicies(e.Policies)
	if err != nil {
		return nil, err
	}
	if p.hostLoopback {
		return nil, fmt.Errorf("policy %s in network %q: %w", PolicyHostLoopback, e.VirtualNetwork, ErrNotSupported)
	}
	for _, p := range p.ports {
		all = append(all, mapping{p.ExternalPort, p.InternalPort, strings.ToLower(p.Protocol), p.ExternalIP})
	}
	return all, nil
}

// chain returns the plugins of an endpoint and what they are called with.
func (l *local) chain(o *ownedEndpoint) (*libcni.CNIConfig, *libcni.NetworkConfigList, *libcni.RuntimeConf, error) {
	n := o.CNI
	list := &libcni.NetworkConfigList{Name: n.Name, CNIVersion: n.Version}
	for _, b := range n.Plugins {
		p, err := libcni.NetworkPluginConfFromBytes(b)
		if err != nil {
			return nil, nil, nil, err
		}
		list.Plugins = append(list.Plugins, p)
	}
	ports, err := mappings(o.Endpoint)
	if err != nil {
		return nil, nil, nil, err
	}
	call := &libcni.RuntimeConf{ContainerID: CanonicalID(o.Endpoint.Id), NetNS: l.spacePath(o.Endpoint.Id), IfName: cniInterface}
	if len(ports) > 0 {
		call.CapabilityArgs = map[string]any{cniPorts: ports}
	}
	return libcni.NewCNIConfigWithCacheDir(n.Path, filepath.Join(l.dir, "cni"), newPlugin()), list, call, nil
}

// build has the plugins make the interface, and reads what it has.
func (c cni) build(ctx context.Context, l *local, o *ownedEndpoint) error {
	plugins, list, call, err := l.chain(o)
	if err != nil {
		return err
	}
	if err := makeSpace(call.NetNS); err != nil {
		return err
	}
	added, err := plugins.AddNetworkList(ctx, list, call)
	if err != nil {
		return fmt.Errorf("network %q: %w", o.Endpoint.VirtualNetwork, errors.Join(ctx.Err(), err))
	}
	result, err := types100.NewResultFromResult(added)
	if err != nil {
		return fmt.Errorf("network %q: %w", o.Endpoint.VirtualNetwork, err)
	}
	if err := inspect(call.NetNS, cniInterface, o.Endpoint); err != nil {
		return fmt.Errorf("network %q: looking at what its plugins made: %w", o.Endpoint.VirtualNetwork, err)
	}
	e := o.Endpoint
	if e.DNSServerList == "" {
		e.DNSServerList = strings.Join(result.DNS.Nameservers, ",")
	}
	hostServers(e)
	if e.DNSSuffix == "" {
		if e.DNSSuffix = strings.Join(result.DNS.Search, ","); e.DNSSuffix == "" {
			e.DNSSuffix = result.DNS.Domain
		}
	}
	return nil
}

// demolish has the plugins remove what build made, or what there is of it.
func (c cni) demolish(ctx context.Context, l *local, o *ownedEndpoint) error {
	if here, err := identity(); err != nil || here != o.NetNS {
		return errors.Join(err, fmt.Errorf("endpoint %s is of another network namespace of this host", o.Endpoint.Id))
	}
	plugins, list, call, err := l.chain(o)
	if err != nil {
		return err
	}
	path := call.NetNS
	if !isSpace(path) {
		call.NetNS = "" // says that it is gone
	}
	if err := plugins.DelNetworkList(ctx, list, call); err != nil {
		return fmt.Errorf("network %q: %w", o.Endpoint.VirtualNetwork, errors.Join(ctx.Err(), err))
	}
	return removeSpace(path)
}

// open connects a tap to the interface.
func (c cni) open(l *local, o *ownedEndpoint) (*NIC, error) {
	nic, err := takeOver(l.spacePath(o.Endpoint.Id), cniInterface, tapName(o.Endpoint.Id))
	if err != nil {
		return nil, fmt.Errorf("taking over the interface of network %q: %w", o.Endpoint.VirtualNetwork, err)
	}
	return nic, nil
}
