package bootfiles

import (
	"errors"
	"os"
)

// exchangeSlowly puts a in b's place, and b in a's. Between two renames there
// is no b; if the second one fails b is put back.
func exchangeSlowly(a, b string) error {
	old := a + "-old"
	if err := os.Rename(b, old); err != nil {
		return err
	}
	if err := os.Rename(a, b); err != nil {
		return errors.Join(err, os.Rename(old, b))
	}
	return os.Rename(old, a)
}
