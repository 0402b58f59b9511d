// Package stats holds the statistics of a utility VM and of its containers as
// protobuf messages (package containerd.runhcs.stats.v1), the form in which
// containerd's clients expect them.
//
// uvm fills [VirtualMachineStatistics]; the shim wraps it, with the use of the
// container, in [Statistics]. All members are filled or zero; a sub-message
// that the host does not know is absent.
//
//	s, err := vm.Stats(ctx)
//	if err != nil {
//		return err
//	}
//	fmt.Println(time.Duration(s.GetProcessor().GetTotalRuntimeNS()))
package stats

//go:generate sh generate.sh
