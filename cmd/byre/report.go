package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/byrevm/byre/hcs"
)

// A report is what --timing and --json print of a run.
type report struct {
	ID    string
	Image string

	began  time.Time
	image  hcs.Stage
	vm     []hcs.Stage
	stages []hcs.Stage
}

func (r *report) add(name string, began time.Time) {
	r.stages = append(r.stages, hcs.Stage{Name: name, At: began, Took: time.Since(began)})
}

// timeline returns every stage that the run came to.
func (r *report) timeline() []hcs.Stage {
	all := append([]hcs.Stage{}, r.vm...)
	if r.image.Name != "" {
		all = append(all, r.image)
	}
	return append(all, r.stages...)
}

func (r *report) print(w io.Writer, f *runFlags, code int, err error) {
	if f.timing && !f.json {
		t := newTable(w)
		fmt.Fprintf(t, "stage\tstarted\ttook\n")
		for _, s := range r.timeline() {
			fmt.Fprintf(t, "%s\t%s\t%s\n", s.Name, milliseconds(s.At.Sub(r.began)), milliseconds(s.Took))
		}
		fmt.Fprintf(t, "total\t\t%s\n", milliseconds(time.Since(r.began)))
		t.Flush()
	}
	if !f.json {
		return
	}
	type stage struct {
		Name    string  `json:"name"`
		Started float64 `json:"startedSeconds"`
		Took    float64 `json:"tookSeconds"`
	}
	v := struct {
		ID       string  `json:"id"`
		Image    string  `json:"image"`
		ExitCode int     `json:"exitCode"`
		Error    string  `json:"error,omitempty"`
		Total    float64 `json:"totalSeconds"`
		Stages   []stage `json:"stages"`
	}{ID: r.ID, Image: r.Image, ExitCode: code, Total: time.Since(r.began).Seconds()}
	if err != nil {
		v.Error = err.Error()
	}
	for _, s := range r.timeline() {
		v.Stages = append(v.Stages, stage{s.Name, s.At.Sub(r.began).Seconds(), s.Took.Seconds()})
	}
	json.NewEncoder(w).Encode(v)
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%7.1f ms", float64(d.Microseconds())/1000)
}
