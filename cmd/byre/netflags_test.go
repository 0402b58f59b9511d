package main

import (
	"fmt"
	"strings"
	"testing"
)

func TestNetworkPlan(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string // of the endpoint and the hosts, or of the error
	}{
		{nil, "nat [] dns= search= []"},
		{[]string{"--network", "nat"}, "nat [] dns= search= []"},
		{[]string{"--network", "none"}, "none []"},
		{[]string{"--network", "none", "--add-host", "a:10.0.0.1"}, "none [a 10.0.0.1]"},
		{[]string{"-p", "8080:80", "-p", "0.0.0.0:53:5353/udp", "-p", "[::1]:1:2/tcp"}, `nat [` +
			`{"Type":"NAT","Protocol":"TCP","InternalPort":80,"ExternalPort":8080} ` +
			`{"Type":"NAT","Protocol":"UDP","InternalPort":5353,"ExternalPort":53,"ExternalIP":"0.0.0.0"} ` +
			`{"Type":"NAT","Protocol":"TCP","InternalPort":2,"ExternalPort":1,"ExternalIP":"::1"}] dns= search= []`},
		{[]string{"--dns", "9.9.9.9", "--dns", "2001:db8::1", "--dns-search", "a.b"}, "nat [] dns=9.9.9.9,2001:db8::1 search=a.b []"},
		{[]string{"--add-host", "db:10.0.0.1", "--add-host", "six=fd00::1", "--add-host", "host.docker.internal:host-gateway"},
			`nat [{"Type":"HostLoopback"}] dns= search= [db 10.0.0.1 six fd00::1 host.docker.internal invalid IP]`},

		{[]string{"--network", "bridge"}, "error: --network bridge is not there yet"},
		{[]string{"--network", "cni:x"}, "error: --network cni:x is not there yet"},
		{[]string{"--network", "host"}, "error: --network host: want"},
		{[]string{"--network", "none", "-p", "1:1"}, "error: -p, --dns"},
		{[]string{"--network", "none", "--dns", "1.1.1.1"}, "error: -p, --dns"},
		{[]string{"--network", "none", "--add-host", "a:host-gateway"}, "error: --add-host a:host-gateway: --network none"},
		{[]string{"-p", "80"}, "error: -p 80: want HOSTPORT"},
		{[]string{"-p", "0:80"}, "error: -p 0:80"},
		{[]string{"-p", "80:65536"}, "error: -p 80:65536"},
		{[]string{"-p", "80-90:80-90"}, "error: -p"},
		{[]string{"-p", "80:80/sctp"}, "error: -p"},
		{[]string{"-p", "localhost:80:80"}, "error: -p"},
		{[]string{"--dns", "one"}, "error: --dns"},
		{[]string{"--dns-search", "a b"}, "error: --dns-search"},
		{[]string{"--add-host", "a"}, "error: --add-host a"},
		{[]string{"--add-host", "a b:10.0.0.1"}, "error: --add-host"},
		{[]string{"--add-host", "a:b"}, "error: --add-host"},
		{[]string{"--add-host", "a:fe80::1%1"}, "error: --add-host"},
	} {
		f := parse(t, c.args...)
		got := ""
		hosts := func(p networkPlan) (all []string) {
			for _, h := range p.hosts {
				all = append(all, h.name+" "+h.address.String())
			}
			return all
		}
		if p, err := f.plan(); err != nil {
			got = "error: " + err.Error()
		} else if e := p.endpoint; e == nil {
			got = fmt.Sprintf("none %v", hosts(p))
		} else {
			got = fmt.Sprintf("%s %s dns=%s search=%s %v", e.VirtualNetwork, e.Policies, e.DNSServerList, e.DNSSuffix, hosts(p))
		}
		if got != c.want && !(strings.HasPrefix(c.want, "error: ") && strings.HasPrefix(got, c.want)) {
			t.Errorf("%q: got %s, want %s", c.args, got, c.want)
		}
	}
}
