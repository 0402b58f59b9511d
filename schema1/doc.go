// Package schema1 holds the documents of the Host Compute Service, schema
// version 1, that are still in use: the older container configuration, the
// older process parameters, the older properties, and the query for systems.
//
// The JSON form is exact, as in package hcsschema. Members that the schema
// always writes have no omitempty here, and the statistics and connection
// information of [ContainerProperties] are values, not pointers: an answer
// without them reads as zero and is written as {}.
package schema1
