package main

import (
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/byrevm/byre/internal/bootfiles"
)

func newBoot() *cobra.Command {
	c := &cobra.Command{
		Use:   "boot",
		Short: "Make and check the files that VMs boot from",
		Args:  cobra.NoArgs,
		RunE:  showHelp,
	}
	c.AddCommand(newBootBuild(), newBootCheck())
	return c
}

func newBootBuild() *cobra.Command {
	var in bootfiles.Input
	var asJSON bool
	c := &cobra.Command{
		Use:   "build [flags] DIR",
		Short: "Make a folder of boot files from a kernel and the agent",
		Long: `Makes a folder that VMs boot from (BootFilesPath): the kernel, an initrd with
its modules, the guest agent and the OCI runtime, and the same as a root file
system. The same inputs give the same bytes. DIR is replaced when all is done
and stays as it was when something fails.`,
		Example: `  apt-get download linux-image-6.1.0-56-amd64
  byre boot build --kernel-package linux-image-*.deb /var/lib/byre/boot
  byre boot build --kernel /boot/vmlinuz-$(uname -r) --modules /lib/modules/$(uname -r) /var/lib/byre/boot`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeFolder,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			if in.Agent == "" {
				in.Agent = besideProgram("gcs")
			}
			if in.Runtime == "" {
				in.Runtime = besideProgram("runc")
			}
			p := newProgress(os.Stderr)
			defer p.stop()
			last := ""
			in.Progress = func(stage string, done, total int64) {
				if last != stage {
					p.finish(last)
					last = stage
				}
				p.update(stage, done, total)
			}
			m, err := bootfiles.Build(ctx, args[0], in)
			p.finish(last)
			p.stop()
			if err != nil {
				return err
			}
			return printBootFiles(cmd, args[0], m, asJSON)
		},
	}
	f := c.Flags()
	f.StringVar(&in.KernelPackage, "kernel-package", "", "kernel package of the distribution (.deb)")
	f.StringVar(&in.Kernel, "kernel", "", "kernel (bzImage) to use instead of a package")
	f.StringVar(&in.Modules, "modules", "", "folder with the modules of --kernel")
	f.StringVar(&in.Agent, "agent", "", "guest agent, a static program (default: gcs beside byre)")
	f.StringVar(&in.Runtime, "runtime", "", "OCI runtime, a static program (default: runc beside byre)")
	f.BoolVar(&in.InitrdOnly, "initrd-only", false, "leave rootfs.vhd and modules.img out, as Windows needs it for a kernel with modules")
	f.BoolVar(&asJSON, "json", false, "print the manifest as JSON")
	return c
}

func newBootCheck() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "check DIR",
		Short: "Read a folder of boot files through and compare it with its manifest",
		Args:  cobra.ExactArgs(1),

		ValidArgsFunction: completeFolder,
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := bootfiles.Verify(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return printBootFiles(cmd, args[0], m, asJSON)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print the manifest as JSON")
	return c
}

func printBootFiles(cmd *cobra.Command, dir string, m *bootfiles.Manifest, asJSON bool) error {
	if asJSON {
		return printJSON(cmd.OutOrStdout(), m)
	}
	t := newTable(cmd.OutOrStdout())
	fmt.Fprintf(t, "boot files of kernel %s in %s\n", m.Kernel, dir)
	for _, name := range slices.Sorted(maps.Keys(m.Files)) {
		fmt.Fprintf(t, "  %s\t%s\n", name, units.HumanSize(float64(m.Files[name].Size)))
	}
	for _, n := range m.Notes {
		fmt.Fprintf(t, "note: %s\n", n)
	}
	return t.Flush()
}

// besideProgram returns the path of a file in byre's own folder.
func besideProgram(name string) string {
	exe, err := os.Executable()
	if err != nil {
		return name
	}
	if real, err := filepath.EvalSymlinks(exe); err == nil {
		exe = real
	}
	return filepath.Join(filepath.Dir(exe), name)
}
