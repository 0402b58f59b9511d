//go:build !linux && !windows

package main

import (
	"fmt"
	"runtime"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcs/hcstest"
)

const engineName = "none"

func newFixture() (hcstest.Fixture, func() error, error) {
	return hcstest.Fixture{}, nil, fmt.Errorf("virtual machines on %s: %w", runtime.GOOS, hcs.ErrNotSupported)
}
