// Package guest is the agent of a Linux utility VM: it serves the bridge to the
// host, and has the machine's containers and processes.
//
// [Main] is the whole agent. It is started by package boot, in the machine's
// first process, or on its own by another init. The packages below it do the
// parts: boot, modules and reaper are what a first process does; storage and
// network are the devices; runc, cgroup and stdio are the containers; clock
// and logs keep the host's time and its log.
//
// The host is trusted with the machine, containers are not: what comes over
// the bridge has a grammar and a limit because a defect of the host should be
// an error and not a mystery; what comes from a container's files is never
// followed out of them.
package guest
