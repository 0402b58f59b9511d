package qemu

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/Microsoft/go-winio/pkg/guid"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

// adapterPath is the path of an adapter with its id in the one form that is
// looked up.
func adapterPath(id string) hcs.Path {
	return hcs.Path{Resource: hcs.ResourceNetwork, Name: strings.ToLower(id)}
}

// checkAdapter refuses what no adapter is. id is the last element of its
// resource path.
func checkAdapter(id string, a *hcsschema.NetworkAdapter) error {
	if _, err := guid.FromString(id); err != nil {
		return fmt.Errorf("network adapter %.80q: %w", id, err)
	}
	if a.EndpointId == "" {
		return errors.New("network adapter without EndpointId")
	}
	if a.MacAddress != "" {
		_, err := parseMAC(a.MacAddress)
		return err
	}
	return nil
}

func parseMAC(s string) (string, error) {
	m, err := net.ParseMAC(s)
	if err != nil || len(m) != 6 || m[0]&1 != 0 || string(m) == "\x00\x00\x00\x00\x00\x00" {
		return "", fmt.Errorf("MAC address %.40q is not that of a network adapter", s)
	}
	return m.String(), nil
}
