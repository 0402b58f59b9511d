//go:build linux

// Command gcs is everything that runs in a Linux utility VM beside the OCI
// runtime: one static program whose name in argv[0] says what it is.
//
//	init       the first process of the machine; see package boot
//	vsockexec  connects standard streams to vsock ports and executes a command
//	modprobe   inserts the module that the kernel asks for
//	gcs        the agent: serves the bridge to the host; see package guest
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/guest"
	"github.com/byrevm/byre/internal/guest/boot"
	"github.com/byrevm/byre/internal/guest/modules"
)

func main() {
	args := os.Args[1:]
	switch filepath.Base(os.Args[0]) {
	case "init":
		os.Exit(boot.Init(args, guest.Main))
	case "vsockexec":
		exit(vsockexec(args))
	case "modprobe":
		exit(modprobe(args))
	default:
		env, err := guest.Standalone()
		exit(err)
		os.Exit(guest.Main(env, args))
	}
}

func exit(err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", filepath.Base(os.Args[0]), err)
		os.Exit(1)
	}
}

// vsockexec returns only an error.
func vsockexec(args []string) error {
	a, err := boot.ParseExec(args)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := boot.ConnectStdio(ctx, a); err != nil {
		return err
	}
	file, err := boot.LookPath(a.Command[0], os.Getenv("PATH"))
	if err != nil {
		return err
	}
	return &os.PathError{Op: "exec", Path: file, Err: unix.Exec(file, a.Command, os.Environ())}
}

// modprobe takes the arguments that the kernel gives it: -q -- REQUEST.
func modprobe(args []string) error {
	for len(args) > 0 && args[0] != "" && args[0][0] == '-' {
		args = args[1:]
	}
	if len(args) != 1 {
		return errors.New("usage: modprobe -q -- REQUEST")
	}
	l, err := modules.Open(modules.IndexPath)
	if err == nil {
		err = l.Known("/proc/modules")
	}
	if err == nil {
		err = l.Request(args[0])
	}
	if errors.Is(err, modules.ErrNotFound) {
		os.Exit(1) // the kernel asks for much that nobody has
	}
	return err
}
