package hcs_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

// The rules of merging (spec §2.1).
func TestNewDocument(t *testing.T) {
	cs := &hcsschema.ComputeSystem{
		Owner: "owner",
		VirtualMachine: &hcsschema.VirtualMachine{
			StopOnReset: true,
			Devices:     &hcsschema.Devices{Plan9: &hcsschema.Plan9{Shares: []hcsschema.Plan9Share{{Name: "a"}, {Name: "b"}}}},
		},
	}
	const devices = `"Devices":{"Plan9":{"Shares":[{"Name":"a"},{"Name":"b"}]}}`
	for name, c := range map[string]struct{ extra, want string }{
		"nothing":               {``, `{"Owner":"owner","VirtualMachine":{"StopOnReset":true,` + devices + `}}`},
		"empty object":          {`{}`, `{"Owner":"owner","VirtualMachine":{` + devices + `,"StopOnReset":true}}`},
		"scalar wins":           {`{"Owner":"x"}`, `{"Owner":"x","VirtualMachine":{` + devices + `,"StopOnReset":true}}`},
		"member by member":      {`{"VirtualMachine":{"New":{"A":1}}}`, `{"Owner":"owner","VirtualMachine":{` + devices + `,"New":{"A":1},"StopOnReset":true}}`},
		"array whole":           {`{"VirtualMachine":{"Devices":{"Plan9":{"Shares":[{"Port":1}]}}}}`, `{"Owner":"owner","VirtualMachine":{"Devices":{"Plan9":{"Shares":[{"Port":1}]}},"StopOnReset":true}}`},
		"scalar for object":     {`{"VirtualMachine":7}`, `{"Owner":"owner","VirtualMachine":7}`},
		"object for scalar":     {`{"Owner":{"A":true}}`, `{"Owner":{"A":true},"VirtualMachine":{` + devices + `,"StopOnReset":true}}`},
		"null keeps an object":  {`{"VirtualMachine":null}`, `{"Owner":"owner","VirtualMachine":{` + devices + `,"StopOnReset":true}}`},
		"null replaces scalars": {`{"Owner":null}`, `{"Owner":null,"VirtualMachine":{` + devices + `,"StopOnReset":true}}`},
		"large numbers":         {`{"N":9007199254740991}`, `{"N":9007199254740991,"Owner":"owner","VirtualMachine":{` + devices + `,"StopOnReset":true}}`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := hcs.NewDocument(cs, c.extra)
			if err != nil || string(got) != c.want {
				t.Errorf("got  %s, %v\nwant %s", got, err, c.want)
			}
		})
	}
	for _, extra := range []string{`[]`, `"x"`, `{"A":`, `{} {}`} {
		if got, err := hcs.NewDocument(cs, extra); err == nil {
			t.Errorf("%s: got %s", extra, got)
		}
	}
}

// A member that the schema lacks is named.
func TestDocumentDecode(t *testing.T) {
	var cs hcsschema.ComputeSystem
	err := hcs.Document(`{"Owner":"x","Toaster":{}}`).Decode(&cs)
	if !errors.Is(err, hcs.ErrNotSupported) || !strings.Contains(err.Error(), "Toaster") {
		t.Errorf("got %v", err)
	}
}
