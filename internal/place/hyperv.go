package place

// scsiControllers are the instances on Hyper-V's VMBus of the controllers "0"
// to "3" of a document: the Host Compute Service makes them from these names,
// version 5 in its own name space.
var scsiControllers = [MaxSCSIControllers]string{
	"df6d0690-79e5-55b6-a5ec-c1e2f77f580a",
	"0110f83b-de10-5172-a266-78bca56bf50a",
	"b5d2d8d4-3a75-51bf-945b-3444dc6b8579",
	"305891a9-b251-5dfe-91a2-c25d9212275b",
}

// SCSIController returns the instance of a document's SCSI controller on
// Hyper-V's VMBus. There, each controller is a host of its own and its LUNs are
// on its target 0.
func SCSIController(controller int) string { return scsiControllers[controller] }
