package uvm

import (
	"strconv"
	"strings"

	"github.com/byrevm/byre/hcs"
)

// commandLine is the kernel's command line (spec §2.3): for the kernel first,
// and after "--" for the init program of the guest.
func (o *OptionsLCOW) commandLine() string {
	var b strings.Builder
	switch {
	case o.PreferredRootFSType == PreferredRootFSTypeVHD:
		b.WriteString("root=/dev/pmem0 ro rootwait init=/init")
	case !o.KernelDirect:
		b.WriteString("initrd=/" + o.RootFSFile)
	}
	if o.ConsolePipe != "" {
		b.WriteString(" 8250_core.nr_uarts=1 8250_core.skip_txen_test=1 console=ttyS0,115200")
	} else {
		b.WriteString(" 8250_core.nr_uarts=0")
	}
	if o.EnableGraphicsConsole {
		b.WriteString(" console=tty")
	}
	if !o.hasConsole() {
		b.WriteString(" panic=-1 quiet") // a panic must end the VM, not wait for a reader
	}
	if o.KernelBootOptions != "" {
		b.WriteString(" " + o.KernelBootOptions)
	}
	if !o.VPCIEnabled {
		b.WriteString(" pci=off")
	}
	if o.ProcessorCount > 0 { // 0 leaves the number to the engine
		b.WriteString(" nr_cpus=" + strconv.Itoa(int(o.ProcessorCount)))
	}
	b.WriteString(" brd.rd_nr=0 pmtmr=0 -- ")
	b.WriteString(o.initArgs())
	return b.String()
}

// initArgs is the command line of the guest's init program: it takes entropy
// from the host, then runs the agent, whose output goes to the host.
func (o *OptionsLCOW) initArgs() string {
	port := strconv.Itoa(int(hcs.LogPort))
	run := "/bin/vsockexec"
	if o.ForwardStdout {
		run += " -o " + port
	}
	if o.ForwardStderr {
		run += " -e " + port
	}
	run += " " + o.ExecCommandLine
	if o.hasConsole() {
		run = `sh -c "` + run + ` & exec sh"`
	}
	return "-e " + strconv.Itoa(int(hcs.EntropyPort)) + " " + run
}

func (o *OptionsLCOW) hasConsole() bool { return o.ConsolePipe != "" || o.EnableGraphicsConsole }
