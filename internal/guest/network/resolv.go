//go:build linux

package network

import (
	"fmt"
	"strings"
)

// maxSearch is how many search domains resolvers take.
const maxSearch = 6

// DNS is how names are resolved.
type DNS struct {
	Search  []string
	Servers []string
}

// ResolvConf returns the text of a resolv.conf.
func (d DNS) ResolvConf() (string, error) {
	if len(d.Search) > maxSearch {
		return "", fmt.Errorf("%d search domains: there can be %d", len(d.Search), maxSearch)
	}
	var b strings.Builder
	if len(d.Search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(d.Search, " "))
	}
	for _, s := range d.Servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	return b.String(), nil
}

// Hosts returns the text of a hosts file for a machine of that name.
func Hosts(hostname string) string {
	local := "127.0.0.1 localhost\n"
	if hostname != "" && hostname != "localhost" {
		local += "127.0.0.1 " + hostname + "\n"
	}
	return local + `::1 localhost ip6-localhost ip6-loopback
fe00::0 ip6-localnet
ff00::0 ip6-mcastprefix
ff02::1 ip6-allnodes
ff02::2 ip6-allrouters
`
}
