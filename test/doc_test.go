// Package test boots real VMs: it proves the whole, through the API and the
// command. It needs what make e2e makes: the programs in bin, the boot files,
// and an image of busybox.
//
// A VM takes seconds to boot where it is emulated, so the tests of one subject
// share one. Every test checks that it leaves nothing behind.
package test
