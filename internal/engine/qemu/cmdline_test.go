package qemu

import (
	"fmt"
	"testing"
)

func TestEditCmdline(t *testing.T) {
	const gcs = "-- -e 1 /bin/vsockexec -e 109 /bin/gcs -v4 -log-format json -loglevel info"
	for name, c := range map[string]struct{ in, want string }{
		"initrd": {
			" 8250_core.nr_uarts=0 panic=-1 quiet pci=off nr_cpus=2 brd.rd_nr=0 pmtmr=0 " + gcs,
			"console=ttyS0 panic=-1 quiet nr_cpus=2 brd.rd_nr=0 " + gcs,
		},
		"PCI enabled": {
			" 8250_core.nr_uarts=0 panic=-1 quiet nr_cpus=2 brd.rd_nr=0 pmtmr=0 " + gcs,
			"console=ttyS0 panic=-1 quiet nr_cpus=2 brd.rd_nr=0 " + gcs,
		},
		"VHD": {
			"root=/dev/pmem0 ro rootwait init=/init 8250_core.nr_uarts=0 panic=-1 quiet pci=off nr_cpus=4 brd.rd_nr=0 pmtmr=0 " + gcs,
			"root=/dev/pmem0 ro rootwait init=/init console=ttyS0 panic=-1 quiet nr_cpus=4 brd.rd_nr=0 " + gcs,
		},
		"console pipe": {
			` 8250_core.nr_uarts=1 8250_core.skip_txen_test=1 console=ttyS0,115200 pci=off nr_cpus=2 brd.rd_nr=0 pmtmr=0 -- -e 1 sh -c "/bin/vsockexec /bin/gcs & exec sh"`,
			`panic=-1 8250_core.nr_uarts=1 8250_core.skip_txen_test=1 console=ttyS0,115200 nr_cpus=2 brd.rd_nr=0 -- -e 1 sh -c "/bin/vsockexec /bin/gcs & exec sh"`,
		},
		"the user's words stay": {
			" 8250_core.nr_uarts=0 panic=-1 quiet pci=off pmtmr=0 8250_core.nr_uarts=0 a=b pci=off nr_cpus=2 brd.rd_nr=0 pmtmr=0 -- x",
			"console=ttyS0 panic=-1 quiet pci=off pmtmr=0 8250_core.nr_uarts=0 a=b nr_cpus=2 brd.rd_nr=0 -- x",
		},
		"the user's console stays last": {
			" 8250_core.nr_uarts=0 panic=-1 quiet console=tty0 pci=off nr_cpus=2 brd.rd_nr=0 pmtmr=0 -- x",
			"console=ttyS0 panic=-1 quiet console=tty0 nr_cpus=2 brd.rd_nr=0 -- x",
		},
		"the user's serial console counts": {
			" 8250_core.nr_uarts=0 panic=-1 quiet console=ttyS0 nr_cpus=2 brd.rd_nr=0 pmtmr=0 -- x",
			"panic=-1 quiet console=ttyS0 nr_cpus=2 brd.rd_nr=0 -- x",
		},
		"after -- nothing is touched": {
			" 8250_core.nr_uarts=0 panic=-1 quiet nr_cpus=0 brd.rd_nr=0 pmtmr=0 -- a  b pci=off pmtmr=0 -- 8250_core.nr_uarts=0",
			"console=ttyS0 panic=-1 quiet nr_cpus=0 brd.rd_nr=0 -- a  b pci=off pmtmr=0 -- 8250_core.nr_uarts=0",
		},
		"-- of the user": {
			" 8250_core.nr_uarts=0 panic=-1 quiet -- mine pci=off nr_cpus=2 brd.rd_nr=0 pmtmr=0 -- x",
			"console=ttyS0 panic=-1 quiet -- mine pci=off nr_cpus=2 brd.rd_nr=0 pmtmr=0 -- x",
		},
		"-- in quotes":                       {`foo="a -- b" pmtmr=0 -- x`, `panic=-1 console=ttyS0 foo="a -- b" -- x`},
		"somebody else's":                    {"root=/dev/sda console=hvc0 pci=off", "root=/dev/sda panic=-1 console=ttyS0 console=hvc0 pci=off"},
		"spaces in quotes":                   {`a="b  c" 8250_core.nr_uarts=0`, `panic=-1 console=ttyS0 a="b  c" 8250_core.nr_uarts=0`},
		"the user's word for a panic counts": {"console=ttyS0,115200 panic=0 pci=off nr_cpus=2 brd.rd_nr=0 pmtmr=0 -- x", "console=ttyS0,115200 panic=0 nr_cpus=2 brd.rd_nr=0 -- x"},
		"empty":                              {"", "panic=-1 console=ttyS0"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := editCmdline(c.in); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
	if got, want := editCmdline("root=/dev/sda ro x", "no_timer_check"), "root=/dev/sda ro panic=-1 console=ttyS0 no_timer_check x"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestMemoryWords(t *testing.T) {
	for o, want := range map[memoryOptions]string{
		{sizeMB: 128}:                  "[swiotlb=noforce]",
		{sizeMB: 2815}:                 "[swiotlb=noforce]",
		{sizeMB: 2816}:                 "[]",
		{sizeMB: 512, lowGapMB: 1024}:  "[swiotlb=noforce]",
		{sizeMB: 512, lowGapMB: 3584}:  "[swiotlb=noforce]",
		{sizeMB: 512, lowGapMB: 3840}:  "[]",
		{sizeMB: 2048, lowGapMB: 2560}: "[]",
	} {
		if got := fmt.Sprint(memoryWords(o)); got != want {
			t.Errorf("%+v: got %s, want %s", o, got, want)
		}
	}
}

func TestEmulationWords(t *testing.T) {
	if got, want := fmt.Sprint(emulationWords(2_100_000)), "[no_timer_check cryptomgr.notests init_on_alloc=0 tsc_early_khz=2100000 tsc=reliable]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := fmt.Sprint(emulationWords(0)), "[no_timer_check cryptomgr.notests init_on_alloc=0]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
