// Package boot is what the agent's binary does as the first process of a
// utility VM.
//
// The kernel gives it everything after -- on its command line, as the
// reference's init has it:
//
//	-e 1 /bin/vsockexec -o 109 -e 109 /bin/gcs -v4 -log-format json -loglevel info
//
// that is: fetch entropy from port 1 of the host, then run the rest. When the
// rest is our own vsockexec and gcs, they run in the first process itself,
// because starting a program is dear under emulation; anything else is
// executed as a child whose exit status ends the VM.
//
// In modules.img, the small initrd of a VM that boots from a disk, the same
// binary inserts the modules, mounts root= and executes the init there.
package boot
