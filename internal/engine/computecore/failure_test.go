package computecore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/schema1"
	"github.com/byrevm/byre/test/wine/standin"
)

// life does with one system all that there is, and closes what it made. It
// goes on where it can after a failure.
func life(l *lab) error {
	ctx := context.Background()
	s, err := l.Create(ctx, "vm", l.document(internal))
	if err != nil {
		return err
	}
	err = s.Start(ctx)
	if err == nil {
		err = l.GrantAccess(ctx, "vm", "a", hcs.AccessVM)
	}
	if err == nil {
		err = l.GrantAccess(ctx, "vm", "a", hcs.AccessGroup)
	}
	if err == nil {
		err = s.Modify(ctx, disk(hcsschema.Add, "a"))
	}
	if err == nil {
		_, err = s.Properties(ctx, hcsschema.PTMemory)
	}
	if err == nil {
		err = lifeOfProcess(ctx, s.(hcs.Processes))
	}
	if err == nil {
		err = lifeOfContainer(ctx, l, s)
	}
	if err == nil {
		_, err = l.Systems(ctx, schema1.ComputeSystemQuery{IDs: []string{"vm"}})
	}
	return errors.Join(err, s.Close())
}

func lifeOfProcess(ctx context.Context, s hcs.Processes) error {
	p, err := s.CreateProcess(ctx, hcsschema.ProcessParameters{CommandLine: "sleep", CreateStdInPipe: true})
	if err != nil {
		return err
	}
	err = p.ResizeConsole(ctx, 80, 25)
	if err == nil {
		_, err = p.Signal(ctx, hcsschema.SignalProcessOptionsLCOW{Signal: 15})
	}
	if err == nil {
		err = p.Wait()
	}
	_, killErr := p.Kill(ctx)
	return errors.Join(err, killErr, p.Close())
}

func lifeOfContainer(ctx context.Context, l *lab, s hcs.System) error {
	c, err := s.(hcs.Hosted).CreateHosted(ctx, "ctr", l.hosted("vm"))
	if err != nil {
		return err
	}
	err = c.Start(ctx)
	if err == nil {
		err = c.Shutdown(ctx)
	}
	if err == nil {
		err = c.Wait()
	}
	return errors.Join(err, c.Close())
}

// functions are those of the DLL that can fail, with how often life calls
// them.
var functions = map[string]int{
	"HcsCreateComputeSystem":        2,
	"HcsSetComputeSystemCallback":   2,
	"HcsGetComputeSystemProperties": 3,
	"HcsStartComputeSystem":         2,
	"HcsGrantVmAccess":              1,
	"HcsGrantVmGroupAccess":         1,
	"HcsModifyComputeSystem":        1,
	"HcsCreateProcess":              1,
	"HcsSetProcessCallback":         1,
	"HcsModifyProcess":              1,
	"HcsSignalProcess":              1,
	"HcsShutDownComputeSystem":      1,
	"HcsEnumerateComputeSystems":    1,
	"HcsTerminateComputeSystem":     1,
}

// Whatever fails, at its first or second call, at once or in the end, the
// error has the code, and nothing is left.
func TestFailures(t *testing.T) {
	const code = 0x80070057
	for name, times := range functions {
		for nth := 1; nth <= times; nth++ {
			for _, late := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%d/late=%v", name, nth, late), func(t *testing.T) {
					l := newLab(t, standin.Script{Fail: []standin.Failure{{Call: name, Nth: nth, Code: code, Late: late && hasOperation(name)}}}, nil)
					err := life(l)
					var e *hcs.Error
					if !errors.As(err, &e) || e.Code != code || e.Op == "" {
						t.Errorf("got error %v, want one with the code %#x", err, code)
					}
				})
			}
		}
	}
}

// hasOperation reports whether a function has an operation that can fail.
func hasOperation(name string) bool {
	return !strings.HasPrefix(name, "HcsSet") && !strings.HasPrefix(name, "HcsGrant")
}

func TestLife(t *testing.T) {
	each(t, func(t *testing.T, script standin.Script) {
		if err := life(newLab(t, script, nil)); err != nil {
			t.Error(err)
		}
	})
}

// The error has the operation, the system, the path and what the service
// says; and it is what callers compare with.
func TestError(t *testing.T) {
	l := newLab(t, standin.Script{}, nil)
	s := l.start("vm", "")
	err := s.Modify(t.Context(), disk(hcsschema.Remove, ""))
	var e *hcs.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %T", err)
	}
	if e.Op != "modify" || e.System != "vm" || e.Path != hcs.SCSIPath(0, 1) || e.Code != 0x80070490 || !errors.Is(err, hcs.ErrNotFound) {
		t.Errorf("got %+v", e)
	}
	if len(e.Records) != 1 || e.Records[0].Message == "" || e.Records[0].Source == "" || e.Records[0].EventID == 0 || e.Records[0].Provider == "" {
		t.Errorf("records are %+v", e.Records)
	}
}

// Systems finds those that there are, and Open gives a handle of one.
func TestOpen(t *testing.T) {
	l := newLab(t, standin.Script{}, nil)
	s := l.start("vm", "")
	ctx := t.Context()
	list, err := l.Systems(ctx, schema1.ComputeSystemQuery{IDs: []string{"vm", "nobody"}})
	if err != nil || len(list) != 1 || list[0].Id != "vm" {
		t.Errorf("systems: %+v, %v", list, err)
	}
	if _, err := l.Open(ctx, "nobody"); !errors.Is(err, hcs.ErrNotFound) {
		t.Errorf("open: got error %v, want %v", err, hcs.ErrNotFound)
	}
	o, err := l.Open(ctx, "vm")
	if err != nil {
		t.Fatal(err)
	}
	if o.RuntimeID() != s.RuntimeID() {
		t.Errorf("runtime id %v, want %v", o.RuntimeID(), s.RuntimeID())
	}
	if err := o.Modify(ctx, disk(hcsschema.Remove, "")); !errors.Is(err, hcs.ErrNotFound) {
		t.Errorf("modify: got error %v, want %v", err, hcs.ErrNotFound)
	}
	if err := o.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	<-s.Done()
}
