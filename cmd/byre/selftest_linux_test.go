package main

import "testing"

// The self-test on this host's QEMU: one VM that is refused, one that is
// changed, and those that end by themselves.
func TestSelftestOnQEMU(t *testing.T) {
	out, err := selftest(t, "--json", "--run", "^(CreateRefused|SCSI|Ends)$")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r := decodeReport(t, out)
	if !r.OK || r.Passed != 3 || r.Failed != 0 || r.Engine != "QEMU" || len(r.Checks) == 0 || r.Build == 0 || r.Processors == 0 {
		t.Errorf("got %+v", r)
	}
	parts := 0
	for _, test := range r.Tests {
		if test.Seconds <= 0 {
			t.Errorf("%s took no time", test.Name)
		}
		if test.Name == "Ends/killed" || test.Name == "CreateRefused/Toaster" {
			parts++
		}
	}
	if parts != 2 {
		t.Errorf("got tests %+v, want the parts", r.Tests)
	}
}
