//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// vsockDevice is where the machine has its socket device.
const vsockDevice = "/sys/bus/pci/devices/0000:00:02.0"

const page = 4096

// scribble writes over persistent memory by every way there is but the file
// system: mappings of the block devices, and of the physical memory.
func scribble(devices []string) error {
	for _, name := range devices {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		b, err := unix.Mmap(int(f.Fd()), 0, 64*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return err
		}
		for i := range b {
			b[i] ^= 0xff
		}
		// It may fail: that is the host's good right.
		_, _ = unix.Msync(b, unix.MS_SYNC), f.Sync()
		f.Close()
	}
	regions, err := filepath.Glob("/sys/bus/nd/devices/region*/resource")
	if err != nil {
		return err
	}
	for _, r := range regions {
		at, err := hexFile(r)
		if err != nil {
			return err
		}
		f, err := os.OpenFile("/dev/mem", os.O_RDWR, 0)
		if err != nil {
			return err
		}
		b, err := unix.Mmap(int(f.Fd()), int64(at), page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		f.Close()
		if err != nil {
			fmt.Println("physical memory:", err) // some kernels do not allow it
			continue
		}
		for i := range b {
			b[i] ^= 0xff
		}
	}
	return nil
}

func hexFile(name string) (uint64, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(b)), 0, 64)
}

// A virtioDevice is driven by its registers (VIRTIO 1.2 §4.1.4.3).
type virtioDevice struct {
	common, notify []byte
	multiplier     uint32
	queues         [3]virtqueue
}

// A virtqueue has eight descriptors, and lies in one page: descriptors at 0,
// available ring at 1024, used ring at 2048.
type virtqueue struct {
	mem   []byte
	n     uint16 // descriptors that have been offered
	where int    // of its notification
}

// poison drives the socket device in place of the kernel: it has an answer
// written to ordinary memory, then one to persistent memory.
func poison() error {
	say := func(what string) {
		os.WriteFile("/dev/kmsg", []byte("<2>poison: "+what), 0) // what the console shows in spite of quiet
	}
	err := poisonSay(say)
	if err != nil {
		say(err.Error())
	}
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	return err
}

func poisonSay(say func(string)) error {
	const region = "/sys/bus/nd/devices/region0/resource"
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(region); err == nil {
			break
		} else if time.Now().After(end) {
			return err
		}
	}
	pmem, err := hexFile(region)
	if err != nil {
		return err
	}
	if err := os.WriteFile(vsockDevice+"/driver/unbind", []byte(filepath.Base(vsockDevice)), 0); err != nil {
		return err
	}
	d, err := openVirtio()
	if err != nil {
		return err
	}
	mem, err := pinned()
	if err != nil {
		return err
	}
	phys, err := physical(mem)
	if err != nil {
		return err
	}
	ask := func(port uint32, to uint64) error {
		d.offer(0, to, page/2, 2)
		copy(mem[page/2:], request(port))
		d.offer(1, phys+page/2, 44, 0)
		return d.answered(d.queues[0].n)
	}
	if err := ask(1000, phys); err != nil {
		return err
	}
	if op := binary.LittleEndian.Uint16(mem[30:]); op != 3 {
		return fmt.Errorf("the answer is of kind %d, not a reset", op)
	}
	say("memory was answered")
	if err := ask(1001, pmem); err == nil {
		return errors.New("persistent memory was answered")
	}
	return nil // the device has ended, and with it the machine
}

// request is the packet that asks for a connection to a port where nobody
// listens (VIRTIO 1.2 §5.10.6).
func request(port uint32) []byte {
	b := make([]byte, 0, 44)
	b = binary.LittleEndian.AppendUint64(b, 3) // from
	b = binary.LittleEndian.AppendUint64(b, 2) // to
	b = binary.LittleEndian.AppendUint32(b, port)
	b = binary.LittleEndian.AppendUint32(b, 9999)
	b = binary.LittleEndian.AppendUint32(b, 0) // length
	b = binary.LittleEndian.AppendUint16(b, 1) // stream
	b = binary.LittleEndian.AppendUint16(b, 1) // request
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint32(b, 1<<16) // room
	return binary.LittleEndian.AppendUint32(b, 0)
}

// pinned returns a page that has its place.
func pinned() ([]byte, error) {
	return unix.Mmap(-1, 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_LOCKED|unix.MAP_POPULATE)
}

// physical returns the physical address of a page.
func physical(mem []byte) (uint64, error) {
	f, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var b [8]byte
	if _, err := f.ReadAt(b[:], int64(uintptr(unsafe.Pointer(&mem[0]))/page*8)); err != nil {
		return 0, err
	}
	frame := binary.LittleEndian.Uint64(b[:]) & (1<<55 - 1)
	if frame == 0 {
		return 0, errors.New("the page map has no frames")
	}
	return frame * page, nil
}

// openVirtio takes the device over.
func openVirtio() (*virtioDevice, error) {
	f, err := os.OpenFile(vsockDevice+"/config", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	config := make([]byte, 256)
	if _, err := f.ReadAt(config, 0); err != nil {
		return nil, err
	}
	if _, err := f.WriteAt([]byte{config[4] | 6}, 4); err != nil { // memory, bus master
		return nil, err
	}
	d := &virtioDevice{}
	for at := config[0x34]; at != 0; at = config[at+1] {
		c := config[at:]
		if c[0] != 9 || c[3] != 1 && c[3] != 2 {
			continue
		}
		bar, err := os.OpenFile(fmt.Sprintf("%s/resource%d", vsockDevice, c[4]), os.O_RDWR|os.O_SYNC, 0)
		if err != nil {
			return nil, err
		}
		b, err := unix.Mmap(int(bar.Fd()), int64(binary.LittleEndian.Uint32(c[8:])), page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		bar.Close()
		if err != nil {
			return nil, err
		}
		if c[3] == 1 {
			d.common = b
		} else {
			d.notify, d.multiplier = b, binary.LittleEndian.Uint32(c[16:])
		}
	}
	if d.common == nil || d.notify == nil {
		return nil, errors.New("the device has no registers")
	}
	return d, d.start()
}

// Registers of the common configuration.
const (
	regFeatureSelect = 8
	regFeature       = 12
	regStatus        = 20
	regQueueSelect   = 22
	regQueueSize     = 24
	regQueueEnable   = 28
	regQueueNotify   = 30
	regQueueDesc     = 32
	regQueueAvail    = 40
	regQueueUsed     = 48
)

func (d *virtioDevice) start() error {
	set8(d.common, regStatus, 0)
	set8(d.common, regStatus, 1|2)
	set32(d.common, regFeatureSelect, 1)
	set32(d.common, regFeature, 1) // version 1
	set8(d.common, regStatus, 1|2|8)
	for i := range d.queues {
		q := &d.queues[i]
		var err error
		if q.mem, err = pinned(); err != nil {
			return err
		}
		at, err := physical(q.mem)
		if err != nil {
			return err
		}
		set16(d.common, regQueueSelect, uint16(i))
		set16(d.common, regQueueSize, 8)
		for reg, a := range map[int]uint64{regQueueDesc: at, regQueueAvail: at + 1024, regQueueUsed: at + 2048} {
			set32(d.common, reg, uint32(a))
			set32(d.common, reg+4, uint32(a>>32))
		}
		q.where = int(*(*uint16)(unsafe.Pointer(&d.common[regQueueNotify]))) * int(d.multiplier)
		set16(d.common, regQueueEnable, 1)
	}
	set8(d.common, regStatus, 1|2|4|8)
	return nil
}

// offer gives the device a buffer.
func (d *virtioDevice) offer(queue int, addr uint64, length uint32, flags uint16) {
	q := &d.queues[queue]
	desc := q.mem[16*q.n:]
	binary.LittleEndian.PutUint64(desc, addr)
	binary.LittleEndian.PutUint32(desc[8:], length)
	binary.LittleEndian.PutUint16(desc[12:], flags)
	binary.LittleEndian.PutUint16(q.mem[1024+4+2*q.n:], q.n)
	q.n++
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&q.mem[1024])), uint32(q.n)<<16) // flags, index
	set16(d.notify, q.where, uint16(queue))
}

// answered waits until the device has used n receive buffers.
func (d *virtioDevice) answered(n uint16) error {
	used := (*uint32)(unsafe.Pointer(&d.queues[0].mem[2048]))
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if atomic.LoadUint32(used)>>16 == uint32(n) {
			return nil
		}
	}
	return errors.New("the device does not answer")
}

//go:noinline
func set8(b []byte, at int, v uint8) { b[at] = v }

//go:noinline
func set16(b []byte, at int, v uint16) { *(*uint16)(unsafe.Pointer(&b[at])) = v }

//go:noinline
func set32(b []byte, at int, v uint32) { *(*uint32)(unsafe.Pointer(&b[at])) = v }
