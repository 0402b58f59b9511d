// Package cgroup has the resource limits and the figures of the machine's
// containers, by cgroup version 2.
//
// All containers are beneath /containers, whose limit leaves the agent the
// memory that it needs. Figures are given in the shape of version 1, which is
// what hosts expect.
package cgroup
