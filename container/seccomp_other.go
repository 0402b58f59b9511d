//go:build !linux

package container

import "github.com/opencontainers/runtime-spec/specs-go"

// seccompProfile returns none: the profile's library is for Linux hosts only.
func seccompProfile(*specs.Spec) (*specs.LinuxSeccomp, error) { return nil, nil }
