//go:build !linux

package bootfiles

import (
	"errors"
	"os"
)

var errLocked = errors.New("locked by another process")

// lockDir does nothing here: stale folders stay.
func lockDir(string) (*os.File, error) { return nil, nil }

func exchange(a, b string) error { return exchangeSlowly(a, b) }

func syncDir(string) error { return nil }
