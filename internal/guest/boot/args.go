//go:build linux

package boot

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// ErrUsage is wrapped by the errors of a malformed command line.
var ErrUsage = errors.New("usage")

// InitArgs are the arguments of init.
type InitArgs struct {
	Entropy uint32 // the host's port to fetch entropy from; 0 is none
	Debug   string // a shell to run on the console beside the command
	Command []string
}

// firmwareWord is what a UEFI firmware puts at the end of the command line when
// there is an initrd, also after "--".
const firmwareWord = "initrd=initrd"

// ParseInit parses the arguments of init, without argv[0].
func ParseInit(args []string) (InitArgs, error) {
	var a InitArgs
	if n := len(args); n > 0 && args[n-1] == firmwareWord {
		args = args[:n-1]
	}
	rest, err := options(args, map[byte]func(string) error{
		'e': port(&a.Entropy),
		'd': func(s string) error { a.Debug = s; return nil },
	})
	if err != nil {
		return a, fmt.Errorf("init: %w", err)
	}
	if len(rest) == 0 {
		return a, fmt.Errorf("init: %w: no command", ErrUsage)
	}
	a.Command = rest
	if len(rest) == 3 && rest[0] == debugShell && rest[1] == "-c" {
		err = a.withShell(rest[2])
	}
	return a, err
}

// ownArgs returns those of the arguments that the kernel's command line has for
// init, after "--". The kernel (init/main.c, unknown_bootoption) puts before
// them each word that neither it nor a module knows, unless it has a "=" or a
// dot.
func ownArgs(cmdline string, args []string) []string {
	words := kernelWords(cmdline)
	i := slices.Index(words, "--")
	if i < 0 {
		return args
	}
	own := len(words) - i - 1
	return args[max(0, len(args)-own):]
}

// kernelWords splits a command line as the kernel does: at the white space
// outside double quotes. The quotes stay.
func kernelWords(line string) []string {
	quoted := false
	return strings.FieldsFunc(line, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return unicode.IsSpace(r) && !quoted
	})
}

// debugShell is the shell of a machine with a console.
const debugShell = "sh"

// withShell takes a shell's script apart that the host writes for a machine
// with a console, "COMMAND & exec sh", so that the command is ours and the
// machine runs also without a shell. Another script is left to the shell.
func (a *InitArgs) withShell(script string) error {
	command, ok := strings.CutSuffix(script, " & exec "+debugShell)
	if !ok {
		return nil
	}
	in, err := ParseInit(strings.Fields(command)) // with options of its own
	if err != nil {
		return err
	}
	if in.Entropy != 0 {
		a.Entropy = in.Entropy
	}
	a.Command, a.Debug = in.Command, debugShell
	return nil
}

// ExecArgs are the arguments of vsockexec: the host's port for each standard
// stream, 0 to leave it alone. Equal ports share one connection.
type ExecArgs struct {
	In, Out, Err uint32
	Command      []string
}

// ParseExec parses the arguments of vsockexec, without argv[0].
func ParseExec(args []string) (ExecArgs, error) {
	var a ExecArgs
	rest, err := options(args, map[byte]func(string) error{
		'i': port(&a.In), 'o': port(&a.Out), 'e': port(&a.Err),
	})
	if err != nil {
		return a, fmt.Errorf("vsockexec: %w", err)
	}
	if len(rest) == 0 {
		return a, fmt.Errorf("vsockexec: %w: no command", ErrUsage)
	}
	a.Command = rest
	return a, nil
}

// options takes single-letter options with a value, -e 1 or -e1, from the
// front of args, and returns what follows them.
func options(args []string, known map[byte]func(string) error) ([]string, error) {
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		if args[0] == "--" {
			return args[1:], nil
		}
		set := known[args[0][1]]
		if set == nil {
			return nil, fmt.Errorf("%w: unknown option %q", ErrUsage, args[0])
		}
		value := args[0][2:]
		args = args[1:]
		if value == "" {
			if len(args) == 0 {
				return nil, fmt.Errorf("%w: option without a value", ErrUsage)
			}
			value, args = args[0], args[1:]
		}
		if err := set(value); err != nil {
			return nil, err
		}
	}
	return args, nil
}

func port(p *uint32) func(string) error {
	return func(s string) error {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil || n == 0 || n == 1<<32-1 {
			return fmt.Errorf("%w: port %q", ErrUsage, s)
		}
		*p = uint32(n)
		return nil
	}
}

// A rootSpec is what the kernel's command line says of the root disk.
type rootSpec struct {
	device, fstype, flags string
	init                  string
	writable              bool
}

// parseRoot reads the kernel's command line.
func parseRoot(cmdline string) rootSpec {
	r := rootSpec{init: "/sbin/init"}
	for _, w := range strings.Fields(cmdline) {
		if w == "--" {
			break
		}
		k, v, _ := strings.Cut(w, "=")
		switch k {
		case "root":
			r.device = v
		case "rootfstype":
			r.fstype = v
		case "rootflags":
			r.flags = v
		case "init":
			r.init = path.Clean("/" + v)
		case "ro":
			r.writable = false
		case "rw":
			r.writable = true
		}
	}
	return r
}
