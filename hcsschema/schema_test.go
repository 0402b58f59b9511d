package hcsschema_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/byrevm/byre/hcsschema"
)

// types are the documents from which every type of the package is reached.
var types = []any{
	hcsschema.ComputeSystem{}, hcsschema.HostedSystem{}, hcsschema.SaveOptions{},
	hcsschema.ModifySettingRequest{}, hcsschema.GuestRequest{},
	hcsschema.CombinedLayers{}, hcsschema.LCOWMappedVirtualDisk{}, hcsschema.WCOWMappedVirtualDisk{},
	hcsschema.LCOWMappedDirectory{}, hcsschema.LCOWMappedVPMemDevice{}, hcsschema.LCOWMappedVPCIDevice{},
	hcsschema.LCOWNetworkAdapter{}, hcsschema.NetworkModifyRequest{}, hcsschema.RS4NetworkModifyRequest{},
	hcsschema.HvSocketAddress{},
	hcsschema.ProcessParameters{}, hcsschema.ProcessModifyRequest{}, hcsschema.ProcessStatus{},
	hcsschema.SignalProcessOptionsLCOW{}, hcsschema.SignalProcessOptionsWCOW{},
	hcsschema.PropertyQuery{}, hcsschema.Properties{},
}

// Every member has the schema's name and is left out when it is zero. The one
// type with members that are never left out has its own test.
func TestMembers(t *testing.T) {
	seen := make(map[reflect.Type]bool)
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			walk(typ.Elem())
			return
		case reflect.Struct:
		default:
			return
		}
		if seen[typ] || !strings.HasSuffix(typ.PkgPath(), "/hcsschema") {
			return
		}
		seen[typ] = true
		for i := range typ.NumField() {
			f := typ.Field(i)
			want := f.Name + ",omitempty"
			if f.Type == reflect.TypeFor[time.Time]() {
				want = f.Name + ",omitzero"
			}
			if got := f.Tag.Get("json"); got != want {
				t.Errorf("%v.%s: got tag %q, want %q", typ, f.Name, got, want)
			}
			// A struct by value would be written although it is zero.
			if f.Type.Kind() == reflect.Struct && f.Type != reflect.TypeFor[time.Time]() {
				t.Errorf("%v.%s is a struct, not a pointer to one", typ, f.Name)
			}
			walk(f.Type)
		}
	}
	for _, v := range types {
		walk(reflect.TypeOf(v))
	}
	if len(seen) < 70 {
		t.Errorf("got %d types, want all that the documents reach", len(seen))
	}
}

func TestZeroAndFull(t *testing.T) {
	for _, v := range types {
		typ := reflect.TypeOf(v)
		t.Run(typ.Name(), func(t *testing.T) {
			if got := encode(t, v); string(got) != "{}" {
				t.Errorf("zero: got %s, want {}", got)
			}
			full := reflect.New(typ)
			fill(full.Elem())
			first := encode(t, full.Interface())
			back := reflect.New(typ)
			decode(t, first, back.Interface())
			if second := encode(t, back.Interface()); !bytes.Equal(first, second) {
				t.Errorf("got  %s\nwant %s", second, first)
			}
		})
	}
}

// fill gives every member of v a value that is not zero.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("s")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(1<<(v.Type().Bits()-1) - 1)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(1<<v.Type().Bits() - 1)
	case reflect.Interface:
		v.Set(reflect.ValueOf(map[string]any{"Anything": "s"}))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		e := reflect.New(v.Type().Elem()).Elem()
		fill(e)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("0"), e)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(1, 0).UTC()))
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i))
			}
		}
	}
}

func TestOmission(t *testing.T) {
	for _, tt := range []struct {
		name string
		v    any
		want string
	}{
		{"version 1.0", hcsschema.SchemaV1(), `{"Major":1}`},
		{"version 2.1", hcsschema.SchemaV21(), `{"Major":2,"Minor":1}`},
		{"empty devices are there", hcsschema.Devices{
			Plan9: &hcsschema.Plan9{}, Keyboard: &hcsschema.Keyboard{},
			Scsi: map[string]hcsschema.Scsi{"0": {}},
		}, `{"Scsi":{"0":{}},"Keyboard":{},"Plan9":{}}`},
		{"empty maps and lists are not", hcsschema.Devices{
			Scsi: map[string]hcsschema.Scsi{}, VirtualSmb: &hcsschema.VirtualSmb{Shares: []hcsschema.VirtualSmbShare{}},
		}, `{"VirtualSmb":{}}`},
		{"no settings", hcsschema.ModifySettingRequest{ResourcePath: "p", RequestType: hcsschema.Remove},
			`{"ResourcePath":"p","RequestType":"Remove"}`},
		{"a zero setting is there", hcsschema.ModifySettingRequest{Settings: 0}, `{"Settings":0}`},
		{"empty settings are there", hcsschema.GuestRequest{Settings: hcsschema.LCOWMappedVirtualDisk{}}, `{"Settings":{}}`},
		{"the first LUN", hcsschema.LCOWMappedVirtualDisk{MountPath: "/m"}, `{"MountPath":"/m"}`},
		{"a Linux container", hcsschema.LinuxHostedSystem{}, `{"SchemaVersion":null,"OciBundlePath":"","OciSpecification":null}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := encode(t, tt.v); string(got) != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// The metrics of a Linux guest come from agents of other makers: the names
// are those of cgroup version 1 in containerd's form.
func TestLCOWMetrics(t *testing.T) {
	const doc = `{"LCOWMetrics":{"hugetlb":[{"usage":1,"max":2,"failcnt":3,"pagesize":"2MB"}],` +
		`"pids":{"current":1,"limit":2},` +
		`"cpu":{"usage":{"total":1,"kernel":2,"user":3,"per_cpu":[4]},"throttling":{"periods":1,"throttled_periods":2,"throttled_time":3}},` +
		`"memory":{"cache":1,"rss":2,"rss_huge":3,"mapped_file":4,"pg_pg_in":5,"pg_maj_fault":6,"hierarchical_memory_limit":7,` +
		`"total_rss":8,"total_pg_pg_out":9,"usage":{"limit":1,"usage":2,"max":3,"failcnt":4},"kernel_tcp":{"usage":1}},` +
		`"blkio":{"io_service_bytes_recursive":[{"op":"Read","device":"/dev/sda","major":8,"value":9}]},` +
		`"rdma":{"current":[{"device":"d","hca_handles":1,"hca_objects":2}]},` +
		`"network":[{"name":"eth0","rx_bytes":1,"tx_dropped":2}]}}`
	var p hcsschema.Properties
	decode(t, []byte(doc), &p)
	if got := encode(t, &p); string(got) != doc {
		t.Errorf("got  %s\nwant %s", got, doc)
	}
	if got := p.LCOWMetrics.CPU.Usage.PerCPU[0]; got != 4 {
		t.Errorf("got %d, want 4", got)
	}
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// decode refuses members that v does not have.
func decode(t *testing.T, b []byte, v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
}
