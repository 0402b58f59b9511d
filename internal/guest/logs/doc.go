// Package logs writes the agent's log as the host reads it: one JSON object a
// line, with the members time, level and msg, and the attributes of the
// record beside them. Levels have the names of the field: trace, debug, info,
// warning, error, fatal.
//
// Records go through a bounded queue: a host that does not read its log loses
// lines, and is told how many, but never holds up the agent.
package logs
