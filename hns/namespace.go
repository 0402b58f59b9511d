package hns

import (
	"encoding/json"
	"fmt"
)

// Namespace is a network namespace as an endpoint refers to it. Its ID is
// always written.
type Namespace struct {
	ID           string
	IsDefault    bool                `json:",omitempty"`
	ResourceList []NamespaceResource `json:",omitempty"`
}

// HostComputeNamespace is a network namespace as a Windows guest is told of
// it: the form of the newer half of the Windows service.
type HostComputeNamespace struct {
	Id            string              `json:"ID,omitempty"`
	NamespaceId   uint32              `json:",omitempty"`
	Type          string              `json:",omitempty"`
	Resources     []NamespaceResource `json:",omitempty"`
	SchemaVersion SchemaVersion
}

// Values of [HostComputeNamespace] Type.
const (
	NamespaceHost         = "Host"
	NamespaceHostDefault  = "HostDefault"
	NamespaceGuest        = "Guest"
	NamespaceGuestDefault = "GuestDefault"
)

// SchemaVersion is the version of a [HostComputeNamespace]; both members are
// always written.
type SchemaVersion struct {
	Major int
	Minor int
}

// Values of [NamespaceResource] Type.
const (
	ResourceEndpoint  = "Endpoint"
	ResourceContainer = "Container"
)

// NamespaceResource is something that is in a namespace. Type tells what
// Data is.
type NamespaceResource struct {
	Type string
	Data json.RawMessage
}

type endpointData struct {
	Id string
}

// NewEndpointResource returns the resource that stands for the endpoint id.
func NewEndpointResource(id string) NamespaceResource {
	data, err := json.Marshal(endpointData{id})
	if err != nil {
		panic(err) // a string always has a JSON form
	}
	return NamespaceResource{Type: ResourceEndpoint, Data: data}
}

// EndpointIDs returns the ids of the endpoints in n, in n's order. It fails
// when an endpoint resource has no id that can be read.
func (n *HostComputeNamespace) EndpointIDs() ([]string, error) {
	var ids []string
	for _, r := range n.Resources {
		if r.Type != ResourceEndpoint {
			continue
		}
		var d endpointData
		if err := json.Unmarshal(r.Data, &d); err != nil {
			return nil, fmt.Errorf("hns: reading an endpoint of namespace %s: %w", n.Id, err)
		}
		if d.Id == "" {
			return nil, fmt.Errorf("hns: an endpoint of namespace %s has no id", n.Id)
		}
		ids = append(ids, d.Id)
	}
	return ids, nil
}

// Clone returns a copy that shares nothing with n.
func (n *HostComputeNamespace) Clone() *HostComputeNamespace {
	c := *n
	c.Resources = cloneResources(n.Resources)
	return &c
}

func cloneResources(s []NamespaceResource) []NamespaceResource {
	if s == nil {
		return nil
	}
	c := make([]NamespaceResource, len(s))
	for i, r := range s {
		c[i] = NamespaceResource{Type: r.Type, Data: append(json.RawMessage(nil), r.Data...)}
	}
	return c
}
