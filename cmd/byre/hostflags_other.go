//go:build !windows

package main

import "github.com/spf13/pflag"

// hostFlags changes nothing here.
func hostFlags(*pflag.FlagSet) {}
