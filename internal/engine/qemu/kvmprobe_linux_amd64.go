package qemu

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests, sizes and offsets of the KVM API (linux/kvm.h), on amd64.
const (
	kvmCreateVM       = 0xae01
	kvmVCPUMmapSize   = 0xae04
	kvmCreateVCPU     = 0xae41
	kvmSetMemory      = 0x4020ae46
	kvmSetTSSAddress  = 0xae47
	kvmRun            = 0xae80
	kvmSetRegs        = 0x4090ae82
	kvmGetSregs       = 0x8138ae83
	kvmSetSregs       = 0x4138ae84
	kvmExitHalt       = 5
	kvmRegsSize       = 144
	kvmSregsSize      = 312
	regsRIP           = 16 * 8
	regsRFLAGS        = 17 * 8
	runImmediateExit  = 1 // in struct kvm_run
	runExitReason     = 8
	sregsCSBase       = 0
	sregsCSSelector   = 12
	probeAddress      = 0x1000
	probeTries        = 3
	probeIterations   = 10_000
	probeGiveUp       = 200 * time.Millisecond
	unusedTSSLocation = 0xfffbd000
)

// probeCode counts down from 10,000 and halts, in real mode.
var probeCode = []byte{
	0xb9, probeIterations & 0xff, probeIterations >> 8, // mov cx, 10000
	0x49,       // dec cx
	0x75, 0xfd, // jnz -3
	0xf4, // hlt
}

// probe runs the loop and notes the best of a few times.
func (f *Facts) probe(kvm int) {
	f.Probed = true
	for range probeTries {
		took, err := runProbe(kvm)
		if err != nil {
			f.ProbeErr = err
			return
		}
		if f.ProbeTook == 0 || took < f.ProbeTook {
			f.ProbeTook = took
		}
		if f.ProbeTook < probeLimit {
			return
		}
	}
}

func runProbe(kvm int) (time.Duration, error) {
	vm, err := ioctl(kvm, kvmCreateVM, 0)
	if err != nil {
		return 0, fmt.Errorf("making a VM: %w", err)
	}
	defer unix.Close(vm)
	memory, err := unix.Mmap(-1, 0, unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANONYMOUS|unix.MAP_SHARED)
	if err != nil {
		return 0, err
	}
	defer unix.Munmap(memory)
	copy(memory, probeCode)
	// Intel processors without real mode in guests want it; the others take it.
	if _, err := ioctl(vm, kvmSetTSSAddress, unusedTSSLocation); err != nil {
		return 0, fmt.Errorf("setting the TSS: %w", err)
	}
	region := struct {
		slot, flags       uint32
		guest, size, user uint64
	}{guest: probeAddress, size: uint64(len(memory)), user: uint64(uintptr(unsafe.Pointer(&memory[0])))}
	if _, err := ioctl(vm, kvmSetMemory, uintptr(unsafe.Pointer(&region))); err != nil {
		return 0, fmt.Errorf("giving the VM memory: %w", err)
	}
	return runVCPU(kvm, vm)
}

func runVCPU(kvm, vm int) (time.Duration, error) {
	size, err := ioctl(kvm, kvmVCPUMmapSize, 0)
	if err != nil || size < 4096 {
		return 0, fmt.Errorf("size of a processor's state: %d, %w", size, err)
	}
	vcpu, err := ioctl(vm, kvmCreateVCPU, 0)
	if err != nil {
		return 0, fmt.Errorf("making a processor: %w", err)
	}
	defer unix.Close(vcpu)
	run, err := unix.Mmap(vcpu, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return 0, err
	}
	defer unix.Munmap(run)
	var regs [kvmRegsSize]byte
	var sregs [kvmSregsSize]byte
	if _, err := ioctl(vcpu, kvmGetSregs, uintptr(unsafe.Pointer(&sregs))); err != nil {
		return 0, err
	}
	binary.LittleEndian.PutUint64(sregs[sregsCSBase:], 0)
	binary.LittleEndian.PutUint16(sregs[sregsCSSelector:], 0)
	if _, err := ioctl(vcpu, kvmSetSregs, uintptr(unsafe.Pointer(&sregs))); err != nil {
		return 0, err
	}
	binary.LittleEndian.PutUint64(regs[regsRIP:], probeAddress)
	binary.LittleEndian.PutUint64(regs[regsRFLAGS:], 2) // the bit that is always set
	if _, err := ioctl(vcpu, kvmSetRegs, uintptr(unsafe.Pointer(&regs))); err != nil {
		return 0, err
	}
	return timeRun(vcpu, run)
}

// timeRun runs the processor until it halts or the time is over: then a
// signal, one that Go's scheduler uses too, takes it out of the guest. Other
// signals only interrupt it.
func timeRun(vcpu int, run []byte) (time.Duration, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	thread := unix.Gettid()
	over, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case <-time.After(probeGiveUp):
			run[runImmediateExit] = 1 // should the signal come before the guest is entered
			unix.Tgkill(unix.Getpid(), thread, unix.SIGURG)
		case <-over:
		}
	}()
	defer func() {
		close(over)
		<-stopped
	}()
	start := time.Now()
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(vcpu), kvmRun, 0)
		took := time.Since(start)
		switch {
		case errno == unix.EINTR && took < probeGiveUp:
			continue
		case errno == unix.EINTR:
			return 0, errors.New("a short loop did not end")
		case errno != 0:
			return 0, fmt.Errorf("running the processor: %w", errno)
		}
		if reason := binary.LittleEndian.Uint32(run[runExitReason:]); reason != kvmExitHalt {
			return 0, fmt.Errorf("the processor stopped for reason %d", reason)
		}
		return took, nil
	}
}
