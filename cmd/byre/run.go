package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/byrevm/byre/container"
	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/internal/engine"
	"github.com/byrevm/byre/uvm"
)

func newRun() *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "run [flags] IMAGE [COMMAND [ARG...]]",
		Short: "Run a command in a new container in a new VM",
		Long: `Boots a VM, puts IMAGE into it and runs COMMAND there, or what the image says.

IMAGE is a reference of a registry, an OCI layout folder, or an OCI or docker
archive. The exit code is the command's; 125 if byre failed, 126 if the command
cannot be run, 127 if it is not there. The container and its VM are gone when
byre returns. Signals go to the command; the third that asks for the end, and the
end of byre's terminal, end the VM. It reaches what this host reaches, except
the host's loopback; nothing reaches it but by the ports that are published.`,
		Example: `  byre run alpine echo hello
  byre run --rm -p ` + publishExample + ` nginx
  byre run -it -e TERM --memory 512m --cpus 1.5 debian bash
  tar c . | byre run -i ./tools.tar tar t`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeImage,
		RunE: func(cmd *cobra.Command, args []string) error {
			r := &run{flags: &f, image: args[0], args: args[1:]}
			if code := r.do(cmd.Context()); code != 0 {
				return &exitError{code, nil}
			}
			return nil
		},
	}
	c.Flags().SetInterspersed(false) // what follows IMAGE is the command's
	f.add(c.Flags())
	completeRunFlags(c)
	return c
}

// A run is one container from its image to its exit code.
type run struct {
	flags *runFlags
	image string
	args  []string

	progress *progress
	signals  *signals
	guest    guestLog
	report   report
	network  *network
}

// do runs the container and returns the exit code of byre, having explained
// one that is not the command's own.
func (r *run) do(ctx context.Context) (code int) {
	f := r.flags
	r.report = report{Image: r.image, began: time.Now()}
	spec, plan, opts, err := r.prepare()
	if err != nil {
		printError(os.Stderr, err)
		if f.json {
			r.report.printJSON(os.Stderr, codeFailed, err)
		}
		return codeFailed
	}
	ctx, r.signals = catchSignals(ctx, f.stopSignal)
	defer r.signals.stop()
	r.progress = newProgress(os.Stderr)
	defer r.progress.stop()
	r.report.ID = opts.ID
	code, err = r.inNetwork(ctx, plan, opts, spec)
	r.progress.stop()
	if s, ok := r.signals.ended(); ok && err != nil {
		code, err = 128+int(s), fmt.Errorf("interrupted (%v)", s)
	}
	if err != nil { // before the report, whose end is the end of stderr
		printError(os.Stderr, err)
	}
	r.report.print(os.Stderr, f, code, err)
	return code
}

// prepare turns the flags into what they ask for, or refuses them before
// anything is made.
func (r *run) prepare() (spec container.SpecOptions, plan networkPlan, opts *uvm.OptionsLCOW, err error) {
	f := r.flags
	if err = f.check(); err != nil {
		return
	}
	if spec, err = f.spec(r.args); err != nil {
		return
	}
	if plan, err = f.plan(); err != nil {
		return
	}
	if opts, err = r.options(spec.Memory); err != nil {
		return
	}
	if f.tty && f.interactive && !isTerminal(os.Stdin) {
		err = errors.New("-t with -i needs a terminal as stdin")
	}
	return
}

// inNetwork runs the container in the network that the flags ask for.
func (r *run) inNetwork(ctx context.Context, plan networkPlan, opts *uvm.OptionsLCOW, so container.SpecOptions) (code int, err error) {
	if r.network, err = plan.make(ctx); err != nil {
		return codeFailed, fmt.Errorf("making the network: %w", err)
	}
	defer func() {
		if cerr := r.network.close(); cerr != nil {
			code, err = codeFailed, errors.Join(err, fmt.Errorf("removing the network: %w", cerr))
		}
	}()
	opts.Network = r.network.of()
	opts.Engine = engine.New(engine.Config{Accel: r.flags.accel, Network: opts.Network})
	return r.inVM(ctx, opts, so)
}

// options returns those of the VM.
func (r *run) options(memory int64) (*uvm.OptionsLCOW, error) {
	f := r.flags
	mb, cpus, err := f.vm(memory)
	if err != nil {
		return nil, err
	}
	if f.bootFiles != "" { // the defaults depend on what is there
		if _, err := os.Stat(f.bootFiles); err != nil { // else another folder would be used
			return nil, fmt.Errorf("--boot-files: %w", err)
		}
		if err := os.Setenv("BYRE_BOOT_FILES", f.bootFiles); err != nil {
			return nil, err
		}
	}
	o := uvm.NewDefaultOptionsLCOW(f.name, "byre")
	if !slog.Default().Enabled(context.Background(), slog.LevelDebug) {
		o.OutputHandler = r.guest.read
	}
	if mb != 0 {
		o.MemorySizeInMB = mb
	}
	if cpus != 0 {
		o.ProcessorCount = cpus
	}
	return o, nil
}

// inVM boots the VM while the image is made ready, and runs the container.
func (r *run) inVM(ctx context.Context, opts *uvm.OptionsLCOW, so container.SpecOptions) (code int, err error) {
	var img *container.Image
	var spec *specs.Spec
	var vm *uvm.UtilityVM
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		began := time.Now()
		img, err = container.OpenImage(gctx, r.image, container.ImageOptions{
			Pull: r.flags.pull, Platform: r.flags.platform, Progress: r.progress.layer,
		})
		if err != nil {
			return err
		}
		r.report.image = hcs.Stage{Name: "image", At: began, Took: time.Since(began)}
		if spec, err = container.NewSpec(img, so); err != nil { // fails before the VM is there
			return err
		}
		r.network.put(spec)
		return nil
	})
	g.Go(func() (err error) {
		vm, err = r.boot(gctx, opts)
		return err
	})
	err = g.Wait()
	if img != nil {
		defer img.Close()
	}
	if vm != nil {
		defer func() {
			began := time.Now()
			if cerr := vm.Close(); cerr != nil {
				err = errors.Join(err, fmt.Errorf("closing the VM: %w", cerr))
				code = codeFailed
			}
			r.report.add("teardown", began)
		}()
	}
	if err != nil {
		return codeFailed, err
	}
	// Who gives up does not wait for a guest that does not answer.
	defer context.AfterFunc(ctx, func() { vm.Terminate(context.WithoutCancel(ctx)) })()
	r.report.ID = vm.ID()
	if so.Terminal {
		spec.Process.ConsoleSize = terminalSize(os.Stdin)
	}
	return r.inContainer(ctx, vm, container.Config{ID: vm.ID(), Spec: spec, Layers: img.Layers(), Network: opts.Network})
}

func (r *run) boot(ctx context.Context, opts *uvm.OptionsLCOW) (*uvm.UtilityVM, error) {
	const name = "booting the VM"
	r.progress.update(name, 0, 0)
	defer r.progress.fail(name)
	vm, err := uvm.CreateLCOW(ctx, opts)
	if err != nil {
		return nil, withoutBootFiles(opts.BootFilesPath, err)
	}
	err = vm.Start(ctx)
	r.report.vm = vm.Timeline()
	if err == nil {
		r.progress.finish(name)
	} else {
		err = errors.Join(err, vm.Close())
		if ctx.Err() == nil {
			err = r.withLastWords(err)
		}
		return nil, err
	}
	return vm, nil
}

// withoutBootFiles adds to err what to do if there is nothing to boot from in a
// folder.
func withoutBootFiles(dir string, err error) error {
	for _, kernel := range []string{uvm.KernelFile, uvm.UncompressedKernelFile} {
		if _, serr := os.Stat(filepath.Join(dir, kernel)); serr == nil {
			return err
		}
	}
	return fmt.Errorf("%w: there are no boot files in %s: make some with byre boot build, or say where they are with --boot-files", err, dir)
}

func (r *run) inContainer(ctx context.Context, vm *uvm.UtilityVM, config container.Config) (int, error) {
	const name = "creating the container"
	r.progress.update(name, 0, 0)
	c, err := container.Create(ctx, vm, config)
	if err != nil {
		r.progress.fail(name)
		return r.failure(vm, err)
	}
	r.progress.finish(name)
	r.report.stages = append(r.report.stages, c.Timeline()...)
	r.progress.stop() // from here on stderr is the container's
	began := time.Now()
	code, err := r.process(ctx, c)
	r.report.add("process", began)
	if err != nil {
		return r.failure(vm, err)
	}
	return code, nil
}

// endPatience is how long the end of a VM may come after that of the
// connections to it.
const endPatience = 3 * time.Second

// failure tells why something in the VM failed, and with which exit code.
func (r *run) failure(vm *uvm.UtilityVM, err error) (int, error) {
	switch {
	case errors.Is(err, container.ErrCommandNotFound):
		return codeNotFound, err
	case errors.Is(err, container.ErrCommandNotExecutable):
		return codeNotExecutable, err
	}
	ended := make(chan struct{})
	go func() { // ends at the latest when the VM is closed
		defer close(ended)
		vm.Wait()
	}()
	t := time.NewTimer(endPatience)
	defer t.Stop()
	select {
	case <-ended:
	case <-t.C:
	}
	var exit *hcs.Exit
	if e := vm.ExitError(); errors.As(e, &exit) {
		return codeFailed, r.withLastWords(fmt.Errorf("the VM ended: %w", e))
	}
	return codeFailed, err
}

// withLastWords adds to err what the guest's agent said when it died.
func (r *run) withLastWords(err error) error {
	if s := r.guest.lastWords(); s != "" {
		return fmt.Errorf("%w\nthe guest's agent said:\n%s", err, s)
	}
	return err
}
