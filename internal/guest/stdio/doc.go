// Package stdio carries the standard streams of processes between the guest
// and the host, one vsock connection a stream, as the reference's agent does.
//
//	process ── pipe ── relay ── vsock connection ── host
//
// An output ends in a handshake: when the process's side has ended, the guest
// shuts down its sending half and reads until the host closes, so that when a
// relay has ended the host has every byte. Only then is the exit of a process
// reported.
package stdio
