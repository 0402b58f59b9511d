package main

import "github.com/spf13/pflag"

// publishExample is a port as -p takes it here.
const publishExample = "0.0.0.0:8080:80"

// hostFlags says of the flags of byre run what they mean here, where that is
// not what they mean on Linux.
func hostFlags(s *pflag.FlagSet) {
	for name, usage := range map[string]string{
		"accel":      "only QEMU has a choice, on Linux",
		"add-host":   "`name:address` for /etc/hosts; the address host-gateway is that of a network's gateway, which nat does not have",
		"boot-files": "`folder` to boot from (default: %BYRE_BOOT_FILES%, LinuxBootFiles beside byre.exe, %ProgramFiles%\\Linux Containers)",
		"network":    "`nat`: the network nat of this host, or else its Default Switch; bridge:NAME: the network NAME; none: only a loopback",
		"publish":    "`address:port:port[/udp]`: a port of the host, on all its addresses, which has to be said by 0.0.0.0, for one of the container; or two ranges of ports, 0.0.0.0:8000-8009:80-89",
		"volume":     "`C:\\host:/guest[:ro]`: a folder or file of the host that the container gets",
	} {
		s.Lookup(name).Usage = usage
	}
}
