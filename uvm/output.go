package uvm

import (
	"io"
	"time"
)

// readOutput gives the log connection to the output handler.
func (vm *UtilityVM) readOutput(a arrival) arrival {
	if a.err != nil {
		vm.finishOutput()
		return a
	}
	vm.mu.Lock()
	vm.logs = a.conn
	vm.mu.Unlock()
	vm.wg.Go(func() {
		defer vm.finishOutput()
		defer a.conn.Close()
		vm.output(a.conn)
		// What the handler leaves unread must not block the guest.
		io.Copy(io.Discard, a.conn)
	})
	return a
}

// finishOutput says that there is no more output.
func (vm *UtilityVM) finishOutput() { vm.outputOnce.Do(func() { close(vm.outputDone) }) }

// drain waits for the last output of a VM that has stopped. It comes to its
// end by itself; if not, or if the VM could not be stopped, it is cut off.
func (vm *UtilityVM) drain() {
	t := time.NewTimer(drainTimeout)
	defer t.Stop()
	select {
	case <-vm.sys.Done():
	default:
		t.Reset(0)
	}
	select {
	case <-vm.outputDone:
		return
	case <-t.C:
	}
	vm.mu.Lock()
	logs := vm.logs
	vm.mu.Unlock()
	if logs != nil {
		vm.log.Warn("output of the guest cut off")
		logs.Close()
	}
}
