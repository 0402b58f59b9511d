//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/byrevm/byre/cow"
	"github.com/byrevm/byre/hns"
	"github.com/byrevm/byre/internal/layers"
	"github.com/byrevm/byre/uvm"
)

// A plugVM is a VM to which things are added, and what it takes to add them.
type plugVM struct {
	vm        *uvm.UtilityVM
	dir       string
	disks     []string
	network   hns.Session
	namespace string
	endpoints []*hns.HNSEndpoint
}

const mib = 1 << 20

// newPlugVM boots a VM with room for n of everything.
func newPlugVM(ctx context.Context, n int) (_ *plugVM, err error) {
	p := &plugVM{}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	if p.dir, err = os.MkdirTemp("", "byre-bench-"); err != nil {
		return nil, err
	}
	for range n {
		f, err := layers.NewScratch(p.dir, 4*mib)
		if err != nil {
			return nil, err
		}
		p.disks = append(p.disks, f)
	}
	if p.network, err = hns.NewSession(); err != nil {
		return nil, err
	}
	ns, err := p.network.CreateNamespace(ctx)
	if err != nil {
		return nil, err
	}
	p.namespace = ns.Id
	for range min(n, 32) {
		e, err := p.network.CreateEndpoint(ctx, &hns.HNSEndpoint{VirtualNetwork: hns.NAT, Namespace: &hns.Namespace{ID: ns.Id}})
		if err != nil {
			return nil, err
		}
		p.endpoints = append(p.endpoints, e)
	}
	o := uvm.NewDefaultOptionsLCOW("", "bench")
	o.MemorySizeInMB, o.AllSCSIControllers, o.Network = 512, true, p.network
	o.VPMemDeviceCount, o.VPMemSizeBytes = uvm.MaxVPMEMCount, 64*mib
	o.RootFSFile, o.PreferredRootFSType = uvm.InitrdFile, uvm.PreferredRootFSTypeInitRd // else it has a slot
	if p.vm, err = uvm.CreateLCOW(ctx, o); err != nil {
		return nil, err
	}
	if err := p.vm.Start(ctx); err != nil {
		return nil, err
	}
	return p, p.vm.AddNetNS(ctx, p.namespace)
}

func (p *plugVM) close() error {
	var err error
	if p.vm != nil {
		err = p.vm.Close()
	}
	if p.network != nil {
		err = errors.Join(err, p.network.Close())
	}
	return errors.Join(err, os.RemoveAll(p.dir))
}

// A plugKind is something that is added: by byre, and by hand.
type plugKind struct {
	name string
	most int // of them in one VM
	ours func(ctx context.Context, p *plugVM, i int) error
	bare func(p *plugVM, i int) (device string, commands []command)
}

var (
	plugSCSI = plugKind{
		name: "scsi", most: 256,
		ours: func(ctx context.Context, p *plugVM, i int) error {
			_, err := p.vm.AddSCSI(ctx, p.disks[i], fmt.Sprintf("/run/mounts/d%d", i), true, uvm.VMAccessTypeIndividual)
			return err
		},
		bare: func(p *plugVM, i int) (string, []command) {
			node := fmt.Sprint("disk", i)
			return "sd", []command{
				{"blockdev-add", map[string]any{"node-name": node, "driver": "raw", "read-only": true, "file": map[string]any{"driver": "file", "filename": p.disks[i], "read-only": true}}},
				{"device_add", map[string]any{"driver": "scsi-hd", "id": node, "drive": node, "bus": "scsi.0", "channel": 0, "scsi-id": 0, "lun": i}},
			}
		},
	}
	plugVPMEM = plugKind{
		name: "vpmem", most: 128,
		ours: func(ctx context.Context, p *plugVM, i int) error {
			_, err := p.vm.AddVPMEM(ctx, p.disks[i])
			return err
		},
		bare: func(p *plugVM, i int) (string, []command) {
			memory := fmt.Sprint("memory", i)
			return "pmem", []command{
				{"object-add", map[string]any{"qom-type": "memory-backend-file", "id": memory, "mem-path": p.disks[i], "size": 4 * mib, "share": true, "readonly": true}},
				{"device_add", map[string]any{"driver": "virtio-pmem-pci", "id": "pmem" + memory, "memdev": memory, "bus": "slots0", "addr": fmt.Sprintf("%#x", i+1)}},
			}
		},
	}
	plugNIC = plugKind{
		name: "nic", most: 32,
		ours: func(ctx context.Context, p *plugVM, i int) error {
			return p.vm.AddEndpointsToNS(ctx, p.namespace, p.endpoints[i:i+1])
		},
		bare: func(_ *plugVM, i int) (string, []command) {
			id := fmt.Sprint("net", i)
			return "eth", []command{
				{"netdev_add", map[string]any{"type": "user", "id": id}},
				{"device_add", map[string]any{"driver": "virtio-net-pci", "id": "nic" + id, "netdev": id, "bus": "slots0", "addr": fmt.Sprintf("%#x", i+1)}},
			}
		},
	}
	plugPlan9 = plugKind{
		name: "plan9", most: 64,
		ours: func(ctx context.Context, p *plugVM, i int) error {
			_, err := p.vm.AddPlan9(ctx, p.dir, fmt.Sprintf("/run/mounts/s%d", i), true, false, nil)
			return err
		},
	}
)

// hotAdd compares adding things to a VM, call to usable in the guest, with the
// bare commands to QEMU until the guest's kernel tells of the device; of
// shares, with a bare mount in the guest. The two take turns.
func hotAdd(k plugKind) func(context.Context, setup) (result, error) {
	return func(ctx context.Context, s setup) (r result, err error) {
		r = result{Name: "hot-add-" + k.name, Unit: "s", N: s.n}
		p, err := newPlugVM(ctx, s.n+1)
		if err != nil {
			return r, err
		}
		defer func() { err = errors.Join(err, p.close()) }()
		by := &bareMount{p: p}
		defer by.close()
		other := func(int) (float64, error) { return by.mount(ctx) }
		if k.bare != nil {
			v, err := newBareVM(ctx, s)
			if err != nil {
				return r, fmt.Errorf("bare QEMU: %w", err)
			}
			defer v.close()
			other = func(i int) (float64, error) {
				device, commands := k.bare(p, i)
				return v.plug(ctx, device, commands...)
			}
		}
		var ours, theirs []float64
		for i := range s.n + 1 {
			began := time.Now()
			if err := k.ours(ctx, p, i); err != nil {
				return r, err
			}
			o := time.Since(began).Seconds()
			t, err := other(i)
			if err != nil {
				return r, err
			}
			if i == 0 { // modules are inserted, programs are read
				continue
			}
			ours, theirs = append(ours, o), append(theirs, t)
			fmt.Fprintf(os.Stderr, "%s %d of %d: byre %.1f ms, bare %.1f ms\n", r.Name, i, s.n, 1000*o, 1000*t)
		}
		r.Ours, r.Theirs = median(ours), median(theirs)
		return r, nil
	}
}

// A bareMount is a program in the VM that mounts the first share once more, by
// hand, each time it is asked: like the agent it is there already.
type bareMount struct {
	p    *plugVM
	cmd  *cow.Cmd
	ask  *io.PipeWriter
	said *bufio.Reader
}

// mount does it, for the share is there once something has been added.
func (b *bareMount) mount(ctx context.Context) (took float64, err error) {
	if b.cmd == nil {
		if err := b.start(ctx); err != nil {
			return 0, err
		}
	}
	if _, err := io.WriteString(b.ask, "\n"); err != nil {
		return 0, fmt.Errorf("mounting by hand: %w", err)
	}
	_, err = fmt.Fscan(b.said, &took)
	if err != nil {
		err = fmt.Errorf("mounting by hand: %w", err)
	}
	return took, err
}

func (b *bareMount) start(ctx context.Context) error {
	if err := buildProgram(ctx, "./bench/testdata/hotplug", filepath.Join(b.p.dir, "hotplug")); err != nil {
		return err
	}
	in, ask := io.Pipe()
	said, out := io.Pipe()
	cmd := cow.Command(b.p.vm, "/run/mounts/s0/hotplug", "mount", "0")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, os.Stderr
	if err := cmd.Start(ctx); err != nil {
		return err
	}
	b.cmd, b.ask, b.said = cmd, ask, bufio.NewReader(said)
	go func() { out.CloseWithError(errors.Join(errors.New("the program ended"), cmd.Wait())) }()
	return nil
}

func (b *bareMount) close() {
	if b.cmd != nil {
		b.ask.Close()
	}
}

// flat compares what the last quarter of as many things as a VM can have costs
// to add with what the first does.
func flat(k plugKind) func(context.Context, setup) (result, error) {
	return func(ctx context.Context, _ setup) (r result, err error) {
		r = result{Name: "flat-" + k.name, Unit: "s", N: k.most}
		p, err := newPlugVM(ctx, k.most)
		if err != nil {
			return r, err
		}
		defer func() { err = errors.Join(err, p.close()) }()
		var took []float64
		for i := range k.most {
			began := time.Now()
			if err := k.ours(ctx, p, i); err != nil {
				return r, fmt.Errorf("%s %d: %w", k.name, i, err)
			}
			took = append(took, time.Since(began).Seconds())
		}
		q := k.most / 4
		r.Ours, r.Theirs = median(took[len(took)-q:]), median(took[:q])
		fmt.Fprintf(os.Stderr, "%s: the first %d take %.1f ms each, the last %.1f ms\n", r.Name, q, 1000*r.Theirs, 1000*r.Ours)
		return r, nil
	}
}
