// Package hcsschema holds the documents of the Host Compute Service, schema
// version 2, and the requests that travel to the guest.
//
// A utility VM is one [ComputeSystem] with a [VirtualMachine] in it. A change
// of a running VM is a [ModifySettingRequest]: a resource path, a request
// type, Settings whose type follows from the path, and optionally a
// [GuestRequest] that the guest agent carries out.
//
// The JSON form is exact, because the real service, the recordings of the
// reference and guest agents of other makers read it: a member is named as
// the schema names it and is left out when it is zero. A pointer to an empty
// struct is not zero: it is written as {}, and that is how a document says
// "this device exists". A reader takes an absent member for zero, so minor
// version 0, LUN 0 and controller 0 never appear.
//
// Go names keep the spelling of the schema (Id, not ID), so that a document
// and the code that writes it can be read side by side.
//
//	doc := &hcsschema.ComputeSystem{
//		Owner:         "byre",
//		SchemaVersion: hcsschema.SchemaV21(),
//		VirtualMachine: &hcsschema.VirtualMachine{
//			ComputeTopology: &hcsschema.Topology{
//				Memory: &hcsschema.Memory2{SizeInMB: 1024},
//			},
//			Devices: &hcsschema.Devices{
//				Scsi: map[string]hcsschema.Scsi{"0": {}},
//			},
//		},
//	}
package hcsschema
