package schema1_test

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/byrevm/byre/schema1"
)

const (
	noTime = `"0001-01-01T00:00:00Z"`
	noStat = `{"Timestamp":` + noTime + `,"ContainerStartTime":` + noTime + `,"Memory":{},"Processor":{},"Storage":{}}`
)

// What the schema always writes is written also when it is zero; everything
// else is left out. The recordings are checked in package hcsschema.
func TestZero(t *testing.T) {
	for _, tt := range []struct {
		v    any
		want string
	}{
		{schema1.ContainerConfig{}, `{"SystemType":"","Name":"","Layers":null,"HvPartition":false}`},
		{schema1.Layer{}, `{"ID":"","Path":""}`},
		{schema1.MappedDir{}, `{"HostPath":"","ContainerPath":"","ReadOnly":false,"BandwidthMaximum":0,"IOPSMaximum":0,"CreateInUtilityVM":false}`},
		{schema1.MappedPipe{}, `{"HostPath":"","ContainerPipeName":""}`},
		{schema1.HvRuntime{}, `{}`},
		{schema1.MappedVirtualDisk{}, `{"ContainerPath":""}`},
		{schema1.AssignedDevice{}, `{}`},
		{schema1.ProcessConfig{}, `{"ConsoleSize":[0,0]}`},
		{schema1.PropertyQuery{}, `{}`},
		{schema1.ComputeSystemQuery{}, `{}`},
		{schema1.ContainerProperties{}, `{"Id":"","State":"","Name":"","SystemType":"","Owner":"",` +
			`"RuntimeId":"00000000-0000-0000-0000-000000000000","Statistics":` + noStat + `,"GuestConnectionInfo":{"GuestDefinedCapabilities":{}}}`},
		{schema1.GuestDefinedCapabilities{}, `{}`},
		{schema1.ProcessListItem{}, `{}`},
		{schema1.Statistics{}, noStat},
		{schema1.NetworkStats{}, `{}`},
	} {
		t.Run(reflect.TypeOf(tt.v).Name(), func(t *testing.T) {
			b, err := json.Marshal(tt.v)
			if err != nil {
				t.Fatal(err)
			}
			if got := string(b); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestProperties(t *testing.T) {
	const doc = `{"Id":"c1","State":"Running","Name":"n","SystemType":"Container","RuntimeOsType":"Linux","Owner":"o",` +
		`"SiloGuid":"s","RuntimeId":"12345678-feed-4bee-8bee-123456789abc","Statistics":{"Timestamp":` + noTime + `,"ContainerStartTime":` + noTime + `,` +
		`"Memory":{"MemoryUsageCommitBytes":1,"MemoryUsageCommitPeakBytes":2,"MemoryUsagePrivateWorkingSetBytes":3},` +
		`"Processor":{"TotalRuntime100ns":18446744073709551615},"Storage":{"ReadSizeBytes":4},"Network":[{"BytesSent":5,"EndpointId":"e"}]},` +
		`"ProcessList":[{"ProcessId":4294967295}],` +
		`"MappedVirtualDiskControllers":{"0":{"MappedVirtualDisks":{"63":{"HostPath":"h","ContainerPath":"c","AttachOnly":true}}}},` +
		`"GuestConnectionInfo":{"SupportedSchemaVersions":[{"Major":2,"Minor":1}],"ProtocolVersion":4,` +
		`"GuestDefinedCapabilities":{"NamespaceAddRequestSupported":true,"SignalProcessSupported":true,"DumpStacksSupported":true,"DeleteContainerStateSupported":true}}}`
	var p schema1.ContainerProperties
	if err := json.Unmarshal([]byte(doc), &p); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(b); got != doc {
		t.Errorf("got  %v\nwant %v", got, doc)
	}
	if got := p.MappedVirtualDiskControllers[0].MappedVirtualDisks[63].HostPath; got != "h" {
		t.Errorf("got disk %q, want h", got)
	}
}
