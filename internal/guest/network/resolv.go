//go:build linux

package network

import (
	"fmt"
	"net/netip"
	"strings"
)

// DNS is how names are resolved.
type DNS struct {
	Search  []string
	Servers []string
}

// ResolvConf returns the text of a resolv.conf. How many domains and servers a
// resolver takes of it is the resolver's affair: those of today take any number
// of domains.
func (d DNS) ResolvConf() string {
	var b strings.Builder
	if len(d.Search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(d.Search, " "))
	}
	for _, s := range d.Servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	return b.String()
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

// maxHosts is how many lines a host may add to a hosts file.
const maxHosts = 1024

// MoreHosts reads lines of a hosts file, each an address and a name, and
// returns them as they may stand in one.
func MoreHosts(lines string) (string, error) {
	var b strings.Builder
	n := 0
	for line := range strings.Lines(lines) {
		w := strings.Fields(line)
		if len(w) == 0 {
			continue
		}
		if n++; len(w) != 2 || n > maxHosts || !isHostname(w[1]) {
			return "", fmt.Errorf("malformed line of a hosts file %.80q", line)
		}
		ip, err := netip.ParseAddr(w[0])
		if err != nil || ip.Zone() != "" {
			return "", fmt.Errorf("malformed address of a hosts file %.80q", w[0])
		}
		fmt.Fprintf(&b, "%s %s\n", ip, w[1])
	}
	return b.String(), nil
}

func isHostname(s string) bool {
	return len(s) <= 253 && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.", r))
	})
}
