// Package cow holds what package uvm and everything above it agree on about
// processes and containers, whoever makes them: a process host runs
// processes, a container is a process host with a life of its own.
package cow
