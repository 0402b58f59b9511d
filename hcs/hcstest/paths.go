package hcstest

import (
	"errors"
	"os"
	"strings"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

// A ResourcePath is a kind of resource path, and the requests for it that an
// engine carries out or refuses for a reason of their own: a file that is not
// there, say. An engine without the path refuses all with
// [hcs.ErrNotSupported].
type ResourcePath struct {
	Path     string // with capital letters in place of numbers and names
	Requests []hcsschema.RequestType
}

// probes has a path of each kind, and settings for it that name nothing.
var probes = []struct {
	kind, path string
	settings   any
}{
	{"VirtualMachine/ComputeTopology/Memory/SizeInMB", hcs.PathMemorySize, 64},
	{"VirtualMachine/ComputeTopology/Processor/Limits", hcs.PathProcessorLimits, hcsschema.ProcessorLimits{}},
	{"VirtualMachine/Devices/MappedPipes/PATH", hcs.PipePath("/nope/pipe"), hcsschema.PipeSocket{Port: hcs.PipePort}},
	{"VirtualMachine/Devices/NetworkAdapters/GUID", hcs.NetworkPath(probeID), hcsschema.NetworkAdapter{EndpointId: probeID, MacAddress: "02-00-00-00-00-01"}},
	{"VirtualMachine/Devices/Plan9/Shares", hcs.PathPlan9, hcsschema.Plan9Share{Name: "probe", AccessName: "probe", Path: "/nope", Port: int32(hcs.Plan9Port), Flags: hcsschema.Plan9FlagLinuxMetadata}},
	{"VirtualMachine/Devices/Scsi/C/Attachments/L", hcs.SCSIPath(0, 7), hcsschema.Attachment{Type: hcsschema.AttachmentVirtualDisk, Path: "/nope"}},
	{"VirtualMachine/Devices/VirtualPMem/Devices/N", hcs.VPMemPath(1), hcsschema.VirtualPMemDevice{HostPath: "/nope", ReadOnly: true}},
	{"VirtualMachine/Devices/VirtualPci/GUID", hcs.PCIPath(probeID), hcsschema.VirtualPciDevice{Functions: []hcsschema.VirtualPciFunction{{DeviceInstancePath: "ffff:ff:1f.7"}}}},
	{"VirtualMachine/Devices/VirtualSmb/Shares", hcs.PathVSMB, hcsschema.VirtualSmbShare{Name: "probe", Path: "/nope"}},
}

// probeID is a GUID that nothing has; its last byte is a slot.
const probeID = "6f9a1c52-7f4e-4d0e-8b3a-0d1b2c3d4e00"

// Paths asks a running system of the fixture for each kind of resource path,
// in the order of the alphabet.
func Paths(t T, f Fixture) []ResourcePath {
	t.Helper()
	e := &env{T: t, suite: &suite{f: f}}
	s := e.start()
	var all []ResourcePath
	for _, p := range probes {
		r := ResourcePath{Path: p.kind}
		for _, kind := range []hcsschema.RequestType{hcsschema.Add, hcsschema.Update, hcsschema.Remove} {
			req := &hcsschema.ModifySettingRequest{ResourcePath: p.path, RequestType: kind, Settings: p.settings}
			if err := s.Modify(e.Context(), req); !errors.Is(err, hcs.ErrNotSupported) {
				r.Requests = append(r.Requests, kind)
			}
		}
		all = append(all, r)
	}
	return all
}

// tableHead begins the table of paths and engines in a document.
const tableHead = "| resource path |"

// CheckTable compares the column of an engine in the table of resource paths
// of a Markdown file with what the engine does, and writes it if update is
// set. The other columns are those of other engines.
func CheckTable(t T, file, engine string, paths []ResourcePath, update bool) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v", err)
	}
	want, err := setColumn(string(b), engine, paths)
	switch {
	case err != nil:
		t.Fatalf("%s: %v", file, err)
	case want == string(b):
	case update:
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatalf("%v", err)
		}
	default:
		t.Errorf("the column %q of the table of resource paths in %s is not what the engine does: run the test with -update", engine, file)
	}
}

// setColumn returns text with the column of an engine as the engine is.
func setColumn(text, engine string, paths []ResourcePath) (string, error) {
	before, table, ok := strings.Cut(text, "\n"+tableHead)
	if !ok {
		return "", errors.New("there is no table of resource paths")
	}
	table = tableHead + table
	table, after, _ := strings.Cut(table, "\n\n")
	rows := strings.Split(table, "\n")
	column := -1
	for i, c := range cells(rows[0]) {
		if c == engine {
			column = i
		}
	}
	if column < 1 {
		return "", errors.New("the table of resource paths has no column " + engine)
	}
	old := make(map[string][]string)
	for _, r := range rows[2:] {
		c := cells(r)
		old[strings.Trim(c[0], "`")] = c
	}
	rows = rows[:2]
	for _, p := range paths {
		row := make([]string, len(cells(rows[0])))
		for i := range row {
			row[i] = "?"
		}
		copy(row, old[p.Path])
		row[0], row[column] = "`"+p.Path+"`", p.requests()
		rows = append(rows, "| "+strings.Join(row, " | ")+" |")
	}
	return before + "\n" + strings.Join(rows, "\n") + "\n\n" + after, nil
}

// cells are the cells of a row of a table.
func cells(row string) []string {
	c := strings.Split(strings.Trim(row, "| "), "|")
	for i := range c {
		c[i] = strings.TrimSpace(c[i])
	}
	return c
}

func (r ResourcePath) requests() string {
	if len(r.Requests) == 0 {
		return "refused"
	}
	var s []string
	for _, k := range r.Requests {
		s = append(s, string(k))
	}
	return strings.Join(s, ", ")
}
