package container

import "github.com/Microsoft/go-winio/pkg/guid"

// layerNames is the name space of the GUIDs of layers, where the host has no
// function for them.
var layerNames = guid.GUID{Data1: 0x1f3f5a34, Data2: 0x3b3e, Data3: 0x4a27, Data4: [8]byte{0x8b, 0x6e, 0x5d, 0x1a, 0x0c, 0x2e, 0x9b, 0x71}}

func nameID(name string) (guid.GUID, error) { return guid.NewV5(layerNames, []byte(name)) }
