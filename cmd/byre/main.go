// Command byre runs containers, each in a virtual machine of its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
)

// Exit codes, as docker has them.
const (
	codeFailed        = 125 // byre itself failed
	codeNotExecutable = 126 // the command cannot be run
	codeNotFound      = 127 // the command is not there
)

// An exitError carries an exit code other than codeFailed out of a verb. A
// nil err prints nothing.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func main() { os.Exit(Main(os.Args[1:])) }

// Main runs byre with the arguments and returns its exit code.
func Main(args []string) int {
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(context.Background())
	if err == nil {
		return 0
	}
	code := codeFailed
	var e *exitError
	if errors.As(err, &e) {
		code = e.code
		if e.err == nil {
			return code
		}
	}
	printError(os.Stderr, err)
	return code
}

func newRoot() *cobra.Command {
	var debug bool
	root := &cobra.Command{
		Use:   "byre",
		Short: "Run containers, each in a virtual machine of its own",
		Long: `byre runs OCI images. Every container gets a small virtual machine with its own
kernel, which boots in the time of a process and is gone with the container.`,
		Example: `  byre run --rm alpine uname -a
  byre run --rm -it --memory 512m ./image.tar sh
  byre doctor`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          showHelp,
		PersistentPreRun: func(*cobra.Command, []string) {
			level := slog.LevelWarn
			if debug {
				level = slog.LevelDebug
			}
			slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})))
		},
	}
	root.PersistentFlags().BoolVar(&debug, "debug", false, "log what happens to stderr")
	root.AddCommand(newRun(), newImage(), newBoot(), newDoctor(), newSelftest(), newVersion())
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w: see %s --help", err, cmd.CommandPath())
	})
	sayUsage(root)
	return root
}

// sayUsage has the errors about the arguments of c and the commands below it
// say what there has to be.
func sayUsage(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return fmt.Errorf("%w: usage: %s", err, cmd.UseLine())
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		sayUsage(sub)
	}
}

// showHelp is what a command does that only has commands of its own. Because
// it does something, cobra checks its arguments: a verb that is not there is an
// error.
func showHelp(cmd *cobra.Command, _ []string) error { return cmd.Help() }
