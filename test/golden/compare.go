package golden

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A seen call is one that is compared, in one form for both sides.
type seen struct {
	Op, System, Path string
	Step             int
	Document         any
}

// lines returns calls as comparable text, a line per call, system by system,
// GUIDs numbered in the order of their appearance.
func lines(t testing.TB, calls []seen) []string {
	t.Helper()
	var systems []string
	bySystem := make(map[string][]string)
	for _, c := range calls {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode([]any{c.Step, c.Op, c.System, c.Path, c.Document}); err != nil {
			t.Fatal(err)
		}
		l := strings.TrimSpace(b.String())
		if _, ok := bySystem[c.System]; !ok {
			systems = append(systems, c.System)
		}
		if same := bySystem[c.System]; once[c.Op] && slices.Contains(same, l) {
			continue
		}
		bySystem[c.System] = append(bySystem[c.System], l)
	}
	var all []string
	for _, s := range systems {
		all = append(all, bySystem[s]...)
	}
	return renumber(all)
}

var (
	guidText = regexp.MustCompile(`(?i)\{\{GUID_\d+\}\}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	keptGUID = regexp.MustCompile(`(?i)^(00000000-0000-0000-0000-000000000000|dcc079ae-60ba-4d07-847c-3493609c0870|acef5661-84a1-4e44-856b-6245e69f4620|.*-facb-11e6-bd58-64006a7986d3|(99999999|aaaaaaaa|bbbbbbbb)-.*)$`)
)

// renumber replaces every GUID that is no input of the test by its number.
func renumber(lines []string) []string {
	numbers := make(map[string]string)
	for i, l := range lines {
		lines[i] = guidText.ReplaceAllStringFunc(l, func(g string) string {
			if keptGUID.MatchString(g) {
				return g
			}
			g = strings.ToLower(g)
			if numbers[g] == "" {
				numbers[g] = fmt.Sprintf("guid%d", len(numbers))
			}
			return numbers[g]
		})
	}
	return lines
}

// diff shows where two lists of lines part.
func diff(want, got []string) string {
	i := 0
	for i < len(want) && i < len(got) && want[i] == got[i] {
		i++
	}
	at := func(l []string, i int) string {
		if i < len(l) {
			return l[i]
		}
		return "(nothing)"
	}
	return fmt.Sprintf("at call %d of %d, %d:\nwant %s\n     %s\ngot  %s\n     %s",
		i+1, len(want), len(got), at(want, i), at(want, i+1), at(got, i), at(got, i+1))
}

func callsOf(calls []seen, step int) []seen {
	var l []seen
	for _, c := range calls {
		if c.Step == step {
			l = append(l, c)
		}
	}
	return l
}

func replaceCalls(calls []seen, step int, by []seen) []seen {
	var l []seen
	done := false
	for _, c := range calls {
		if c.Step == step {
			continue
		}
		if c.Step > step && !done {
			l, done = append(l, by...), true
		}
		l = append(l, c)
	}
	if !done {
		l = append(l, by...)
	}
	return l
}
