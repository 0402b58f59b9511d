// Package pipes gives the guest the Unix sockets of its host: each is a socket
// of the same mode and owner, whose clients are connected to a vsock port
// where the host has the other end (package internal/pipe).
package pipes
