package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/uvm"
)

// A report is what --timing and --json print of a run.
type report struct {
	ID    string
	Image string

	began  time.Time
	image  hcs.Stage   // beside the boot
	vm     []hcs.Stage // as uvm and the engine have them
	stages []hcs.Stage // what follows the boot
}

func (r *report) add(name string, began time.Time) {
	r.stages = append(r.stages, hcs.Stage{Name: name, At: began, Took: time.Since(began)})
}

// timeline returns the stages that the run came to, one after the other.
func (r *report) timeline() []hcs.Stage { return append(bootStages(r.vm), r.stages...) }

// bootStages turns the stages of uvm and of the engine, some of which are
// parts of others, into stages that follow each other:
//
//	VMM spawn  until the guest's kernel runs
//	kernel     from there until something in the guest connects
//	agent      from there until the agent has connected
//	bridge     the agent and the host agree on a protocol
func bootStages(vm []hcs.Stage) []hcs.Stage {
	at := make(map[string]hcs.Stage)
	for _, s := range vm {
		at[s.Name] = s
	}
	var out []hcs.Stage
	add := func(name string, from, to time.Time) {
		out = append(out, hcs.Stage{Name: name, At: from, Took: max(0, to.Sub(from))})
	}
	create, ok := at[uvm.StageCreate]
	if !ok {
		return nil
	}
	running := end(create)
	if s, ok := at[uvm.StageVMM]; ok {
		running = end(s)
	}
	add("VMM spawn", create.At, running)
	kernel, ok := at[uvm.StageKernel]
	if !ok {
		return out
	}
	first := end(kernel)
	for _, name := range []string{uvm.StageInit, uvm.StageAgent} { // in whatever order they came
		if s, ok := at[name]; ok && s.At.Before(first) {
			first = s.At
		}
	}
	add("kernel", running, first)
	bridge, ok := at[uvm.StageBridge]
	if !ok {
		return out
	}
	add("agent", first, bridge.At)
	add("bridge", bridge.At, end(bridge))
	return out
}

func end(s hcs.Stage) time.Time { return s.At.Add(s.Took) }

func (r *report) print(w io.Writer, f *runFlags, code int, err error) {
	if f.timing && !f.json {
		r.printTable(w)
	}
	if f.json {
		r.printJSON(w, code, err)
	}
}

func (r *report) printTable(w io.Writer) {
	t := newTable(w)
	fmt.Fprintf(t, "stage\tstarted\ttook\n")
	for _, s := range r.timeline() {
		fmt.Fprintf(t, "%s\t%s\t%s\n", s.Name, milliseconds(s.At.Sub(r.began)), milliseconds(s.Took))
	}
	fmt.Fprintf(t, "total\t\t%s\n", milliseconds(time.Since(r.began)))
	if s := r.image; s.Name != "" {
		fmt.Fprintf(t, "beside the boot: %s\t%s\t%s\n", s.Name, milliseconds(s.At.Sub(r.began)), milliseconds(s.Took))
	}
	t.Flush()
}

func (r *report) printJSON(w io.Writer, code int, err error) {
	type stage struct {
		Name    string  `json:"name"`
		Started float64 `json:"startedSeconds"`
		Took    float64 `json:"tookSeconds"`
	}
	stages := func(in ...hcs.Stage) []stage {
		out := make([]stage, 0, len(in))
		for _, s := range in {
			if s.Name != "" {
				out = append(out, stage{s.Name, s.At.Sub(r.began).Seconds(), s.Took.Seconds()})
			}
		}
		return out
	}
	v := struct {
		ID       string  `json:"id"`
		Image    string  `json:"image"`
		ExitCode int     `json:"exitCode"`
		Error    string  `json:"error,omitempty"`
		Total    float64 `json:"totalSeconds"`
		Stages   []stage `json:"stages"` // one after the other
		Beside   []stage `json:"beside"` // at the same time as the boot
		Detail   []stage `json:"detail"` // of the boot; some are parts of others
	}{
		ID: r.ID, Image: r.Image, ExitCode: code, Total: time.Since(r.began).Seconds(),
		Stages: stages(r.timeline()...), Beside: stages(r.image), Detail: stages(r.vm...),
	}
	if err != nil {
		v.Error = err.Error()
	}
	json.NewEncoder(w).Encode(v)
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%7.1f ms", float64(d.Microseconds())/1000)
}
