package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/byrevm/byre/internal/layers"
)

func newImage() *cobra.Command {
	c := &cobra.Command{
		Use:   "image",
		Short: "Look after the images whose layers are on this host",
		Args:  cobra.NoArgs,
		RunE:  showHelp,
	}
	c.AddCommand(newImageLs(), newImagePull(), newImageRm(), newImagePrune())
	return c
}

func newImageLs() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the images that were pulled",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cache, err := layers.Open(layers.Config{})
			if err != nil {
				return err
			}
			all, err := cache.List()
			if err != nil {
				return err
			}
			if asJSON {
				return printImages(cmd.OutOrStdout(), all)
			}
			t := newTable(cmd.OutOrStdout())
			fmt.Fprintln(t, "IMAGE\tPLATFORM\tDIGEST\tLAYERS\tSIZE\tPULLED\tUSED")
			for _, e := range all {
				fmt.Fprintf(t, "%s\t%s\t%.19s\t%d\t%s\t%s ago\t%s ago\n", e.Ref, e.Platform, e.Digest, len(e.Layers),
					units.HumanSize(float64(e.Size)), units.HumanDuration(time.Since(e.Created)), units.HumanDuration(time.Since(e.LastUsed)))
			}
			return t.Flush()
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func newImagePull() *cobra.Command {
	var platform string
	c := &cobra.Command{
		Use:   "pull [flags] IMAGE...",
		Short: "Fetch images and make their layers into disks",
		Args:  cobra.MinimumNArgs(1),

		ValidArgsFunction: completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			cache, err := layers.Open(layers.Config{})
			if err != nil {
				return err
			}
			p := newProgress(os.Stderr)
			defer p.stop()
			for _, ref := range args {
				img, err := cache.Get(ctx, ref, layers.GetOptions{Pull: layers.PullAlways, Platform: platform, Progress: func(e layers.Event) {
					p.layer(e.Stage, e.Layer, e.Done, e.Total)
				}})
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", img.Ref, img.Digest)
				if err := img.Close(); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().StringVar(&platform, "platform", "", "`os/arch` of the image (default: Linux on this host's processor)")
	return c
}

func newImageRm() *cobra.Command {
	return &cobra.Command{
		Use:     "rm IMAGE...",
		Aliases: []string{"remove"},
		Short:   "Forget images; prune gives their space back",
		Args:    cobra.MinimumNArgs(1),

		ValidArgsFunction: completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			cache, err := layers.Open(layers.Config{})
			if err != nil {
				return err
			}
			var errs []error
			for _, ref := range args { // one that is not there does not keep the others
				if err := cache.Remove(cmd.Context(), ref); err != nil {
					errs = append(errs, err)
					continue
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s\n", ref)
			}
			return errors.Join(errs...)
		},
	}
}

func newImagePrune() *cobra.Command {
	var asJSON bool
	var o layers.PruneOptions
	c := &cobra.Command{
		Use:   "prune",
		Short: "Delete the disks of layers that no image needs",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cache, err := layers.Open(layers.Config{})
			if err != nil {
				return err
			}
			done, err := cache.Prune(cmd.Context(), o)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), struct {
					Layers int   `json:"layers"`
					Bytes  int64 `json:"bytes"`
					InUse  int   `json:"inUse"`
				}{done.Layers, done.Bytes, done.InUse})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "deleted %d layers, %s; %d more are in use\n", done.Layers, units.HumanSize(float64(done.Bytes)), done.InUse)
			return err
		},
	}
	f := c.Flags()
	f.Int64Var(&o.Limit, "limit", 0, "`bytes` that the disks may take; the least recently used go first (default: the cache's limit)")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// printImages writes what is known of each image as JSON.
func printImages(w io.Writer, all []layers.Entry) error {
	type image struct {
		Ref      string    `json:"ref"`
		Platform string    `json:"platform"`
		Digest   string    `json:"digest"`
		Layers   []string  `json:"layers"`
		Size     int64     `json:"size"`
		Missing  int       `json:"missingLayers"`
		Pulled   time.Time `json:"pulled"`
		LastUsed time.Time `json:"lastUsed"`
	}
	out := make([]image, 0, len(all))
	for _, e := range all {
		out = append(out, image{e.Ref, e.Platform, e.Digest, e.Layers, e.Size, e.Missing, e.Created, e.LastUsed})
	}
	return printJSON(w, out)
}

// layer shows how far the work on a layer of an image is.
func (p *progress) layer(stage, layer string, done, total int64) {
	name := fmt.Sprintf("%s %.19s", stage, layer)
	if total > 0 && done >= total {
		p.finish(name)
		return
	}
	p.update(name, done, total)
}
