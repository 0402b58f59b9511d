//go:build linux

package guest

import (
	"errors"
	"strings"
)

// splitCommand splits a command line as a shell does: blanks separate words,
// '…' is literal, in "…" a backslash escapes $ ` " \ and newline, elsewhere
// everything. Nothing is expanded.
func splitCommand(s string) ([]string, error) {
	var words []string
	var w strings.Builder
	in := false // a word, which may be empty
	var quote byte
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case quote == 0 && strings.IndexByte(" \t\n", c) >= 0:
			if in {
				words = append(words, w.String())
				w.Reset()
				in = false
			}
		case quote == 0 && (c == '\'' || c == '"'):
			quote, in = c, true
		case c == quote:
			quote = 0
		case c == '\\' && quote != '\'':
			if i++; i == len(s) {
				return nil, errors.New("command line ends in a backslash")
			}
			if quote == '"' && strings.IndexByte("$`\"\\\n", s[i]) < 0 {
				w.WriteByte('\\')
			}
			w.WriteByte(s[i])
			in = true
		default:
			w.WriteByte(c)
			in = true
		}
	}
	if quote != 0 {
		return nil, errors.New("command line ends in a quotation")
	}
	if in {
		words = append(words, w.String())
	}
	return words, nil
}
