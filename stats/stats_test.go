package stats_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	cgroups "github.com/containerd/cgroups/v3/cgroup1/stats"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/byrevm/byre/stats"
)

// The names and numbers are what clients of other makers know: they must
// never change.
func TestFieldNumbers(t *testing.T) {
	for _, tt := range []struct {
		m    proto.Message
		want string
	}{
		{&stats.Statistics{}, "windows=1 linux=2 vm=3"},
		{&stats.WindowsContainerStatistics{}, "timestamp=1 container_start_time=2 uptime_ns=3 processor=4 memory=5 storage=6"},
		{&stats.WindowsContainerProcessorStatistics{}, "total_runtime_ns=1 runtime_user_ns=2 runtime_kernel_ns=3"},
		{&stats.WindowsContainerMemoryStatistics{}, "memory_usage_commit_bytes=1 memory_usage_commit_peak_bytes=2 memory_usage_private_working_set_bytes=3"},
		{&stats.WindowsContainerStorageStatistics{}, "read_count_normalized=1 read_size_bytes=2 write_count_normalized=3 write_size_bytes=4"},
		{&stats.VirtualMachineStatistics{}, "processor=1 memory=2"},
		{&stats.VirtualMachineProcessorStatistics{}, "total_runtime_ns=1"},
		{&stats.VirtualMachineMemoryStatistics{}, "working_set_bytes=1 virtual_node_count=2 vm_memory=3"},
		{&stats.VirtualMachineMemory{}, "available_memory=1 available_memory_buffer=2 reserved_memory=3 assigned_memory=4 slp_active=5 balancing_enabled=6 dm_operation_in_progress=7"},
	} {
		d := tt.m.ProtoReflect().Descriptor()
		t.Run(string(d.Name()), func(t *testing.T) {
			if got, want := d.FullName().Parent(), protoreflect.FullName("containerd.runhcs.stats.v1"); got != want {
				t.Errorf("package: got %v, want %v", got, want)
			}
			var got []string
			for i := range d.Fields().Len() {
				f := d.Fields().Get(i)
				got = append(got, fmt.Sprintf("%s=%d", f.Name(), f.Number()))
			}
			if got := strings.Join(got, " "); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// The Go names are edited after generation; nothing may be lost by that.
func TestRoundTrip(t *testing.T) {
	vm := &stats.VirtualMachineStatistics{
		Processor: &stats.VirtualMachineProcessorStatistics{TotalRuntimeNS: math.MaxUint64},
		Memory: &stats.VirtualMachineMemoryStatistics{
			WorkingSetBytes:  1 << 40,
			VirtualNodeCount: 2,
			VmMemory: &stats.VirtualMachineMemory{
				AvailableMemory: -1, AvailableMemoryBuffer: 3, ReservedMemory: 4, AssignedMemory: 5,
				SlpActive: true, BalancingEnabled: true, DmOperationInProgress: true,
			},
		},
	}
	for _, tt := range []struct {
		name string
		m    *stats.Statistics
	}{
		{"empty", &stats.Statistics{}},
		{"vm", &stats.Statistics{VM: vm}},
		{"linux", &stats.Statistics{VM: vm, Container: &stats.Statistics_Linux{
			Linux: &cgroups.Metrics{Pids: &cgroups.PidsStat{Current: 7}},
		}}},
		{"windows", &stats.Statistics{Container: &stats.Statistics_Windows{
			Windows: &stats.WindowsContainerStatistics{
				Timestamp:          timestamppb.New(time.Unix(2, 0)),
				ContainerStartTime: timestamppb.New(time.Unix(1, 0)),
				UptimeNS:           1,
				Processor:          &stats.WindowsContainerProcessorStatistics{TotalRuntimeNS: 3, RuntimeUserNS: 1, RuntimeKernelNS: 2},
				Memory: &stats.WindowsContainerMemoryStatistics{
					MemoryUsageCommitBytes: 1, MemoryUsageCommitPeakBytes: 2, MemoryUsagePrivateWorkingSetBytes: 3,
				},
				Storage: &stats.WindowsContainerStorageStatistics{
					ReadCountNormalized: 1, ReadSizeBytes: 2, WriteCountNormalized: 3, WriteSizeBytes: 4,
				},
			},
		}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := proto.Marshal(tt.m)
			if err != nil {
				t.Fatal(err)
			}
			got := &stats.Statistics{}
			if err := proto.Unmarshal(b, got); err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(got, tt.m) {
				t.Errorf("got %v, want %v", got, tt.m)
			}
		})
	}
}

func TestWire(t *testing.T) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(&stats.Statistics{
		VM: &stats.VirtualMachineStatistics{
			Processor: &stats.VirtualMachineProcessorStatistics{TotalRuntimeNS: 5},
			Memory:    &stats.VirtualMachineMemoryStatistics{WorkingSetBytes: 6},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	// vm: field 3, 8 bytes: processor: field 1 {1: 5}, memory: field 2 {1: 6}.
	if want := []byte{3<<3 | 2, 8, 1<<3 | 2, 2, 1 << 3, 5, 2<<3 | 2, 2, 1 << 3, 6}; !bytes.Equal(b, want) {
		t.Errorf("got % x, want % x", b, want)
	}
}

func TestJSON(t *testing.T) {
	b, err := json.Marshal(&stats.VirtualMachineStatistics{
		Processor: &stats.VirtualMachineProcessorStatistics{TotalRuntimeNS: 5},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(b), `{"processor":{"total_runtime_ns":5}}`; got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}
