//go:build !windows

package main

import "github.com/spf13/pflag"

// publishExample is a port as -p takes it here.
const publishExample = "8080:80"

// hostFlags changes nothing here.
func hostFlags(*pflag.FlagSet) {}
