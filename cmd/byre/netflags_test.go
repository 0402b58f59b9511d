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

		{[]string{"--network", "bridge", "--add-host", "h:host-gateway"}, "bridge [] dns= search= [h invalid IP]"},
		{[]string{"--network", "bridge:br1", "--dns-search", "a"}, "bridge:br1 [] dns= search=a []"},
		{[]string{"--network", "cni:x", "--add-host", "a:10.0.0.1"}, "cni:x [] dns= search= [a 10.0.0.1]"},
		{[]string{"-p", "[::1]:8000-8002:80-82/udp"}, `nat [` +
			`{"Type":"NAT","Protocol":"UDP","InternalPort":80,"ExternalPort":8000,"ExternalIP":"::1"} ` +
			`{"Type":"NAT","Protocol":"UDP","InternalPort":81,"ExternalPort":8001,"ExternalIP":"::1"} ` +
			`{"Type":"NAT","Protocol":"UDP","InternalPort":82,"ExternalPort":8002,"ExternalIP":"::1"}] dns= search= []`},
		{[]string{"-p", "7-7:9"}, `nat [{"Type":"NAT","Protocol":"TCP","InternalPort":9,"ExternalPort":7}] dns= search= []`},

		{[]string{"--network", "bridge:"}, "error: --network bridge:: want"},
		{[]string{"--network", "cni"}, "error: --network cni: want"},
		{[]string{"--network", "cni:x", "--add-host", "a:host-gateway"}, "error: --add-host a:host-gateway: the gateway of a CNI"},
		{[]string{"--network", "host"}, "error: --network host: a VM has no part"},
		{[]string{"--network", "none", "-p", "1:1"}, "error: -p, --dns"},
		{[]string{"--network", "none", "--dns", "1.1.1.1"}, "error: -p, --dns"},
		{[]string{"--network", "none", "--add-host", "a:host-gateway"}, "error: --add-host a:host-gateway: --network none"},
		{[]string{"-p", "80"}, "error: -p 80: want HOSTPORT:PORT or ADDRESS:HOSTPORT:PORT; no port of the host is chosen"},
		{[]string{"-p", "0:80"}, "error: -p 0:80"},
		{[]string{"-p", "80:65536"}, "error: -p 80:65536"},
		{[]string{"-p", "80-90:80-89"}, "error: -p 80-90:80-89: 11 ports of the host for 10"},
		{[]string{"-p", "8000-9000:80"}, "error: -p 8000-9000:80: 1001 ports of the host for 1"},
		{[]string{"-p", "90-80:90-80"}, "error: -p 90-80:90-80: the range 90-80 ends"},
		{[]string{"-p", "80-:80"}, "error: -p"},
		{[]string{"-p", "-80:80"}, "error: -p"},
		{[]string{"-p", "1-2-3:1-2-3"}, "error: -p"},
		{[]string{"-p", "65535-65536:1-2"}, "error: -p"},
		{[]string{"-p", "1-600:1-600", "-p", "1-600:1-600/udp"}, "error: -p 1-600:1-600/udp: more than 1000"},
		{[]string{"-p", "127.0.0.1::80"}, "error: -p"},
		{[]string{"-p", "80:80/sctp"}, "error: -p"},
		{[]string{"-p", "localhost:80:80"}, "error: -p"},
		{[]string{"--dns", "one"}, "error: --dns"},
		{[]string{"--dns-search", strings.Repeat("a", 250), "--dns-search", strings.Repeat("b", 250), "--dns-search", strings.Repeat("c", 250),
			"--dns-search", strings.Repeat("d", 250), "--dns-search", strings.Repeat("e", 250)}, "error: --dns or --dns-search: 1254 characters"},
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
