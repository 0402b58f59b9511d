package main

import (
	"slices"

	"github.com/spf13/cobra"

	"github.com/byrevm/byre/internal/layers"
)

// completeImage completes IMAGE with the images that were pulled, and, where
// none fits, with files. What follows it is inside the container.
func completeImage(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return pulledImages(nil), cobra.ShellCompDirectiveDefault
}

// completeImages completes IMAGE... with the images that were pulled.
func completeImages(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return pulledImages(args), cobra.ShellCompDirectiveNoFileComp
}

// pulledImages returns the references in the cache without those that are
// given already. A cache that cannot be read has none: a shell that waits for
// completions is no place for errors.
func pulledImages(given []string) (refs []string) {
	cache, err := layers.Open(layers.Config{})
	if err != nil {
		return nil
	}
	all, err := cache.List()
	if err != nil {
		return nil
	}
	for _, e := range all {
		if !slices.Contains(given, e.Ref) && !slices.Contains(refs, e.Ref) {
			refs = append(refs, e.Ref)
		}
	}
	return refs
}

// completeFolder completes one folder.
func completeFolder(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveFilterDirs
}

// completeRunFlags completes the values of the flags of run that have few, and
// nothing where a file would be wrong.
func completeRunFlags(c *cobra.Command) {
	nothing := cobra.NoFileCompletions
	for name, values := range map[string]cobra.CompletionFunc{
		"pull":        choice("always", "missing", "never"),
		"accel":       choice("auto", "kvm", "tcg"),
		"network":     choice("nat", "none", "bridge", "cni:"),
		"platform":    choice("linux/amd64", "linux/arm64"),
		"stop-signal": choice(linuxSignals...),
		"boot-files":  completeFolder,
		"name":        nothing, "env": nothing, "workdir": nothing, "user": nothing, "entrypoint": nothing, "hostname": nothing,
		"tmpfs": nothing, "shm-size": nothing, "ulimit": nothing, "cap-add": nothing, "cap-drop": nothing,
		"memory": nothing, "cpus": nothing, "vm-memory": nothing, "vm-cpus": nothing,
	} {
		if err := c.RegisterFlagCompletionFunc(name, values); err != nil {
			panic(err) // there is no such flag
		}
	}
}

func choice(values ...string) cobra.CompletionFunc {
	return cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)
}
