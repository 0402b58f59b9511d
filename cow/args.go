package cow

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/byrevm/byre/hcsschema"
)

// parameters returns what Host takes.
func (c *Cmd) parameters() (any, error) {
	p := hcsschema.ProcessParameters{
		CreateStdInPipe:  c.Stdin != nil,
		CreateStdOutPipe: c.Stdout != nil,
		CreateStdErrPipe: c.Stderr != nil && (c.Spec == nil || !c.Spec.Terminal),
	}
	if c.Host.IsOCI() {
		l := &hcsschema.LinuxProcessParameters{ProcessParameters: p}
		if c.Spec != nil {
			b, err := json.Marshal(c.Spec)
			if err != nil {
				return nil, fmt.Errorf("encoding OCI process: %w", err)
			}
			l.OciProcess = b
		}
		return l, nil
	}
	s := c.Spec
	if s == nil {
		return nil, fmt.Errorf("a process of a %s host needs a Spec", c.Host.OS())
	}
	p.CommandLine, p.WorkingDirectory, p.EmulateConsole = s.CommandLine, s.Cwd, s.Terminal
	p.User = s.User.Username
	if p.CommandLine == "" {
		if c.Host.OS() == "windows" {
			p.CommandLine = commandLine(s.Args)
		} else {
			p.CommandArgs = s.Args
		}
	}
	for _, e := range s.Env {
		if k, v, _ := strings.Cut(e, "="); v != "" {
			if p.Environment == nil {
				p.Environment = make(map[string]string)
			}
			p.Environment[k] = v
		}
	}
	if s.ConsoleSize != nil {
		p.ConsoleSize = []int32{int32(s.ConsoleSize.Height), int32(s.ConsoleSize.Width)}
	}
	return &p, nil
}

// commandLine joins arguments so that a Windows program's C run-time takes
// them apart again.
func commandLine(args []string) string {
	q := make([]string, len(args))
	for i, a := range args {
		q[i] = quoteArg(a)
	}
	return strings.Join(q, " ")
}

// quoteArg quotes one argument: within quotes a backslash is special only
// before a quote, where each is doubled.
func quoteArg(s string) string {
	if s != "" && !strings.ContainsAny(s, " \t\n\v\"") {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	slashes := 0
	for i := range len(s) {
		switch s[i] {
		case '\\':
			slashes++
			continue
		case '"':
			b.WriteString(strings.Repeat(`\`, 2*slashes+1))
		default:
			b.WriteString(strings.Repeat(`\`, slashes))
		}
		slashes = 0
		b.WriteByte(s[i])
	}
	b.WriteString(strings.Repeat(`\`, 2*slashes))
	b.WriteByte('"')
	return b.String()
}
