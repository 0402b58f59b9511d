package uvm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/byrevm/byre/hcs"
)

// drainTimeout is how long the last output of a VM that has stopped may take.
const drainTimeout = 10 * time.Second

// errRunning is the ExitError of a VM that has not stopped.
var errRunning = errors.New("container not exited")

// Wait returns when the VM has stopped and its output has been handled. Its
// error is nil after every end that this package knows the kind of; see
// [UtilityVM.ExitError] for which it was.
func (vm *UtilityVM) Wait() error {
	<-vm.sys.Done()
	<-vm.outputDone
	var exit *hcs.Exit
	err := vm.sys.Err()
	if errors.As(err, &exit) && (exit.Orderly() || exit.Unexpected()) {
		return nil
	}
	return err
}

// ExitError returns nil after an end that the guest or the host asked for, an
// error that wraps an [hcs.Exit] after any other, and an error while the VM
// has not stopped.
func (vm *UtilityVM) ExitError() error {
	select {
	case <-vm.sys.Done():
	default:
		return errRunning
	}
	var exit *hcs.Exit
	err := vm.sys.Err()
	if errors.As(err, &exit) && exit.Orderly() {
		return nil
	}
	return fmt.Errorf("utility VM %s: %w", vm.id, err)
}

// Terminate stops the VM at once. It does nothing if the VM has stopped.
func (vm *UtilityVM) Terminate(ctx context.Context) error { return vm.sys.Terminate(ctx) }

// Close stops the VM if it runs, and gives back all that it holds on the
// host, whatever state it is in. It waits for the goroutines of the VM,
// OutputHandler included. A second call does nothing and returns what the
// first did.
func (vm *UtilityVM) Close() error { return vm.closed() }

func (vm *UtilityVM) close() error {
	err := vm.stop(context.Background())
	vm.end()
	vm.mu.Lock()
	client := vm.client
	vm.mu.Unlock()
	if client != nil {
		client.Close() // why the bridge broke was told to those who used it
	}
	vm.drain()
	err = errors.Join(err, vm.sys.Close(), vm.memory.close())
	vm.wg.Wait()
	return err
}

// stop terminates the system and waits until it has stopped, whether ctx has
// ended or not.
func (vm *UtilityVM) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	if err := vm.sys.Terminate(ctx); err != nil {
		return fmt.Errorf("terminating utility VM %s: %w", vm.id, err)
	}
	select {
	case <-vm.sys.Done():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the end of utility VM %s: %w", vm.id, ctx.Err())
	}
}

// end is the last change of state: nothing can connect any more.
func (vm *UtilityVM) end() {
	vm.mu.Lock()
	before := vm.state
	vm.state = ended
	vm.mu.Unlock()
	vm.listen.close()
	if before == created {
		vm.finishOutput() // nobody has accepted the log connection, or will
	}
}
