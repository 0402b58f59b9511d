package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/byrevm/byre/hcs/hcstest"
	"github.com/byrevm/byre/internal/engine"
)

func newSelftest() *cobra.Command {
	var pattern string
	var asJSON bool
	c := &cobra.Command{
		Use:   "selftest",
		Short: "Test the engine of this host, and print a report to send",
		Long: `Runs the conformance suite, which every engine of byre has to pass, on the
engine of this host: it makes and ends some dozens of small VMs, without a
guest in them, and leaves nothing. The report begins with what byre found on
the host. Exits with 1 if a test failed.`,
		Example: `  byre selftest
  byre selftest --json >report.json
  byre selftest --run '^SCSI$'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			only, err := regexp.Compile(pattern)
			if err != nil {
				return fmt.Errorf("--run: %w", err)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			fixture, clean, err := newFixture()
			if err != nil {
				return err
			}
			r := newReport(ctx, fixture.Engine.Host().Build)
			out := io.Discard
			if !asJSON {
				out = cmd.OutOrStdout()
			}
			r.head(out)
			s := &selfSuite{only: only, out: out}
			began := time.Now()
			s.run(ctx, func(t hcstest.T) { hcstest.TestEngine(t, fixture) })
			if err := clean(); err != nil {
				s.record(selfResult{Name: "clean-up", Log: []string{err.Error()}})
			}
			r.finish(s, time.Since(began), ctx.Err() != nil)
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), r)
			} else {
				_, err = fmt.Fprintln(out, r.Summary)
			}
			if err == nil && !r.OK {
				err = &exitError{1, nil}
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&pattern, "run", "", "run only the tests whose name matches the `regexp`")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// A selfReport is what a self-test found.
type selfReport struct {
	Byre       string       `json:"byre"`
	Go         string       `json:"go"`
	Platform   string       `json:"platform"`
	Build      int          `json:"build"` // of the host, as documents are made for it
	Engine     string       `json:"engine"`
	Processors int          `json:"processors"`
	Time       time.Time    `json:"time"`
	Checks     []selfCheck  `json:"checks"`
	Tests      []selfResult `json:"tests"`
	Passed     int          `json:"passed"`
	Failed     int          `json:"failed"`
	Seconds    float64      `json:"seconds"`
	OK         bool         `json:"ok"`
	Summary    string       `json:"summary"`
}

// A selfCheck is a line of byre doctor.
type selfCheck struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// A selfResult is how a test ended. The name of a part of a test has that of
// the test before a slash.
type selfResult struct {
	Name    string   `json:"name"`
	OK      bool     `json:"ok"`
	Seconds float64  `json:"seconds"`
	Log     []string `json:"log,omitempty"`
}

func newReport(ctx context.Context, build int) *selfReport {
	h := engine.Host().Host()
	r := &selfReport{
		Byre: buildVersion(), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Build: build, Engine: engineName, Processors: h.Processors, Time: time.Now().UTC().Truncate(time.Second),
	}
	for _, c := range allChecks(ctx) {
		r.Checks = append(r.Checks, selfCheck{c.Name, c.OK, c.Detail})
	}
	return r
}

// head prints what is known before the tests.
func (r *selfReport) head(w io.Writer) {
	fmt.Fprintf(w, "byre %s (%s, %s), engine %s, build %d, %d processors, %s\n",
		r.Byre, r.Go, r.Platform, r.Engine, r.Build, r.Processors, r.Time.Format(time.RFC3339))
	t := newTable(w)
	for _, c := range r.Checks {
		state := "ok"
		if !c.OK {
			state = "no"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", state, c.Name, c.Detail)
	}
	t.Flush()
	fmt.Fprintln(w)
}

// finish adds up.
func (r *selfReport) finish(s *selfSuite, took time.Duration, interrupted bool) {
	r.Tests, r.Seconds = s.results, took.Seconds()
	for _, t := range r.Tests {
		switch {
		case strings.Contains(t.Name, "/"): // counted with the whole
		case t.OK:
			r.Passed++
		default:
			r.Failed++
		}
	}
	r.OK = r.Failed == 0 && r.Passed > 0 && !interrupted
	r.Summary = fmt.Sprintf("%d tests passed, %d failed, in %.1f s", r.Passed, r.Failed, r.Seconds)
	switch {
	case interrupted:
		r.Summary += "; interrupted"
	case r.Passed+r.Failed == 0:
		r.Summary += "; no test has such a name"
	}
}
