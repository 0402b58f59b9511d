package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/byrevm/byre/internal/bootfiles"
	"github.com/byrevm/byre/internal/engine"
	"github.com/byrevm/byre/internal/layers"
)

// lowDisk is how little room for layers is worth a warning, in bytes.
const lowDisk = 1 << 30

func newDoctor() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this host has and lacks, and what to do about it",
		Long: `Looks at what byre needs of this host: on Linux the virtual machine monitor, acceleration
and cgroups, on Windows its build, features and services; boot files, disk and
memory. Exits with 1 if something is missing
without which no VM runs.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			checks := allChecks(cmd.Context())
			bad := 0
			for _, c := range checks {
				if !c.OK && c.Remedy != "" {
					bad++
				}
			}
			if err := printChecks(cmd, checks, asJSON); err != nil {
				return err
			}
			if bad > 0 {
				return &exitError{1, nil}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// allChecks looks at everything.
func allChecks(ctx context.Context) []engine.Check {
	return append(append(engine.Checks(ctx), hostChecks()...), checkBootFiles(), checkCache())
}

func printChecks(cmd *cobra.Command, checks []engine.Check, asJSON bool) error {
	if asJSON {
		type check struct {
			Name   string `json:"name"`
			OK     bool   `json:"ok"`
			Detail string `json:"detail"`
			Remedy string `json:"remedy,omitempty"`
		}
		out := make([]check, 0, len(checks))
		for _, c := range checks {
			out = append(out, check(c))
		}
		return printJSON(cmd.OutOrStdout(), out)
	}
	t := newTable(cmd.OutOrStdout())
	for _, c := range checks {
		state := "ok"
		switch {
		case !c.OK && c.Remedy != "":
			state = "MISSING"
		case !c.OK:
			state = "note"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", state, c.Name, c.Detail)
		if !c.OK && c.Remedy != "" {
			fmt.Fprintf(t, "\t\t→ %s\n", c.Remedy)
		}
	}
	return t.Flush()
}

// checkBootFiles looks for the folder that run boots from.
func checkBootFiles() engine.Check {
	folders := engine.Host().Host().BootFiles
	c := engine.Check{Name: "boot files"}
	if len(folders) > 0 {
		c.Remedy = fmt.Sprintf(bootFilesRemedy, folders[len(folders)-1])
	}
	for _, dir := range folders {
		if _, err := os.Stat(filepath.Join(dir, "initrd.img")); err != nil {
			if _, err := os.Stat(filepath.Join(dir, "rootfs.vhd")); err != nil {
				continue
			}
		}
		m, err := bootfiles.Check(dir)
		if errors.Is(err, fs.ErrNotExist) {
			c.OK, c.Detail = true, dir+", which byre has not made"
			return c
		}
		if err != nil {
			c.Detail = fmt.Sprintf("%s: %v", dir, err)
			return c
		}
		c.Detail = fmt.Sprintf("kernel %s in %s", m.Kernel, dir)
		if err := bootable(m); err != nil {
			c.Detail += ", which " + err.Error()
			return c
		}
		c.OK = true
		return c
	}
	c.Detail = fmt.Sprintf("none in %q", folders)
	return c
}

// checkCache looks at the room for layers.
func checkCache() engine.Check {
	c := engine.Check{Name: "layer cache", Remedy: "set BYRE_CACHE to a folder that can be written to, with room"}
	cache, err := layers.Open(layers.Config{})
	if err != nil {
		c.Detail = err.Error()
		return c
	}
	free, err := freeSpace(cache.Dir())
	if err != nil {
		c.Detail = err.Error()
		return c
	}
	c.OK = free >= lowDisk
	c.Detail = fmt.Sprintf("%s free in %s", units.HumanSize(float64(free)), cache.Dir())
	return c
}
