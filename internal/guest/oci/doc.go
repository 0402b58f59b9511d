// Package oci turns the OCI specification that the host sends for a container
// into the one that the runtime gets: the host knows layers and policies, only
// the guest knows its folders, its devices and the users of the image.
//
// There are three kinds of containers: one on its own; a pod's sandbox, which
// has the pod's namespaces and files; and a workload in a pod, which shares
// them.
package oci
