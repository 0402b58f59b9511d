package qemu

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/internal/hostfs"
	"github.com/byrevm/byre/internal/virtiofs"
)

// openShares serves the device for shares to QEMU at the other end of ours, and
// the guest's agent that tells who of those that wait for a lock has a signal.
func (s *system) openShares(ours *os.File) error {
	conn, err := unixConn(ours)
	if err != nil {
		return err
	}
	s.folders.files = hostfs.NewFiles(0)
	s.folders.device = virtiofs.New(conn, virtiofs.Config{Logger: s.log, Files: s.folders.files})
	l, err := s.vsock.Listen(hcs.LockPort)
	if err != nil {
		return err
	}
	s.background(func() { serveLocks(l, s.folders.device, s.log) }) // ends with the VM
	return nil
}

// superviseShares waits for the end of the device. One that ends before QEMU
// was misused by the guest's driver, or by QEMU: then whoever in the guest asks
// for a file waits for ever, and cannot be killed. So it is the end of the
// system.
func (s *system) superviseShares(device *virtiofs.Server) {
	<-device.Done()
	err := device.Err()
	if errors.Is(err, net.ErrClosed) {
		return
	}
	limit := time.NewTimer(farewell)
	defer limit.Stop()
	select {
	case <-s.proc.done:
	case <-limit.C:
		s.mu.Lock()
		s.misused = fmt.Sprintf("its device for shares ended: %v", err)
		s.mu.Unlock()
		s.log.Error("device for shares ended, and the system with it", "err", err)
		s.proc.kill()
	}
}
