package uvm

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

// A vsmbBus is the folders of the host that a Windows guest can open. The zero
// value is ready to use.
type vsmbBus struct {
	shares refs[vsmbKey, *vsmbShare]

	mu            sync.Mutex
	live          map[vsmbKey]int // shares by path and files only; guarded by mu
	names, others uint64          // given out; guarded by mu
}

// A vsmbKey tells shares apart. A folder has several if it is shared in
// several ways.
type vsmbKey struct {
	path       string // of the folder
	files      bool   // single files of it
	readOnly   bool
	restricted bool
}

// A vsmbShare is a share that the guest has, guarded by its key.
type vsmbShare struct {
	name    string
	options hcsschema.VirtualSmbShareOptions
	allowed []string       // as they were passed, "" for the folder
	uses    map[string]int // of each file by its clean path, "" for the folder
}

// path returns where the guest finds a file of the share, or the share if
// file is "".
func (s *vsmbShare) path(file string) string {
	p := vsmbPrefix + s.name
	if file != "" {
		p += `\` + filepath.Base(file)
	}
	return p
}

type vsmbCandidate struct {
	key  vsmbKey
	file string
}

// vsmbKeys returns all ways in which hostPath may be shared.
func vsmbKeys(hostPath string) []vsmbCandidate {
	p := filepath.Clean(hostPath)
	var l []vsmbCandidate
	for _, readOnly := range []bool{true, false} {
		for _, restricted := range []bool{false, true} {
			l = append(l, vsmbCandidate{vsmbKey{path: p, readOnly: readOnly, restricted: restricted}, ""})
		}
	}
	for _, readOnly := range []bool{true, false} {
		l = append(l, vsmbCandidate{vsmbKey{path: filepath.Dir(p), files: true, readOnly: readOnly, restricted: true}, p})
	}
	return l
}

// name returns the name of a new share: s1, s2, … as the reference counts
// them. One more of a folder that is shared already is none of those: m1, ….
func (b *vsmbBus) name(k vsmbKey) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.live == nil {
		b.live = make(map[vsmbKey]int)
	}
	k = k.anyWay()
	b.live[k]++
	if b.live[k] > 1 {
		b.others++
		return "m" + strconv.FormatUint(b.others, 16)
	}
	b.names++
	return "s" + strconv.FormatUint(b.names, 16)
}

// gone says that a share has gone that name was called for.
func (b *vsmbBus) gone(k vsmbKey) {
	b.mu.Lock()
	defer b.mu.Unlock()
	k = k.anyWay()
	if b.live[k]--; b.live[k] == 0 {
		delete(b.live, k)
	}
}

// anyWay is k without the way in which the path is shared.
func (k vsmbKey) anyWay() vsmbKey { return vsmbKey{path: k.path, files: k.files} }

// shareVSMB makes a share.
func (vm *UtilityVM) shareVSMB(ctx context.Context, k vsmbKey, file, hostPath string, o hcsschema.VirtualSmbShareOptions) (*vsmbShare, error) {
	s := &vsmbShare{name: vm.vsmb.name(k), options: o, uses: map[string]int{file: 1}}
	if k.restricted {
		s.allowed = []string{entry(file, hostPath)}
	}
	if err := vm.modifyVSMB(ctx, hcsschema.Add, k, s); err != nil {
		vm.vsmb.gone(k)
		return nil, fmt.Errorf("sharing %s: %w", hostPath, err)
	}
	return s, nil
}

// allowVSMB adds a use to a share. The host is told of a file that it does
// not show yet.
func (vm *UtilityVM) allowVSMB(ctx context.Context, k vsmbKey, s *vsmbShare, file, hostPath string, o hcsschema.VirtualSmbShareOptions) error {
	if err := vm.alive(); err != nil {
		return err
	}
	if k.restricted && s.uses[file] == 0 {
		next := *s
		next.options = o
		next.allowed = append(slices.Clip(s.allowed), entry(file, hostPath))
		if err := vm.modifyVSMB(ctx, hcsschema.Update, k, &next); err != nil {
			return fmt.Errorf("sharing %s: %w", hostPath, err)
		}
		s.options, s.allowed = next.options, next.allowed // the name is read without the turn
	}
	s.uses[file]++
	return nil
}

// entry is what a list of allowed files has for a file.
func entry(file, hostPath string) string {
	if file == "" {
		return ""
	}
	return hostPath
}

// dropVSMB takes a use from a share. The last of a file takes it from the
// list, the last of all ends the sharing.
func (vm *UtilityVM) dropVSMB(ctx context.Context, k vsmbKey, file string) error {
	last := func(s *vsmbShare) error {
		if s.uses[file] == 0 {
			return ErrNotAttached
		}
		req := &hcsschema.ModifySettingRequest{
			RequestType:  hcsschema.Remove,
			ResourcePath: hcs.PathVSMB,
			Settings:     hcsschema.VirtualSmbShare{Name: s.name},
		}
		if err := vm.modify(ctx, req); err != nil {
			return fmt.Errorf("removing share of %s from utility VM %s: %w", k.path, vm.id, err)
		}
		vm.vsmb.gone(k)
		return nil
	}
	other := func(s *vsmbShare) error {
		switch {
		case s.uses[file] == 0:
			return ErrNotAttached
		case s.uses[file] == 1 && k.restricted:
			next := *s
			next.allowed = slices.DeleteFunc(slices.Clone(s.allowed), func(f string) bool {
				return f == file || f != "" && filepath.Clean(f) == file
			})
			if err := vm.modifyVSMB(ctx, hcsschema.Update, k, &next); err != nil {
				return fmt.Errorf("taking %s out of its share: %w", file, err)
			}
			s.allowed = next.allowed
		}
		s.uses[file]--
		return nil
	}
	return vm.vsmb.shares.giveBack(ctx, k, last, other, nil)
}

// modifyVSMB tells the host what a share is.
func (vm *UtilityVM) modifyVSMB(ctx context.Context, t hcsschema.RequestType, k vsmbKey, s *vsmbShare) error {
	return vm.modify(ctx, &hcsschema.ModifySettingRequest{
		RequestType:  t,
		ResourcePath: hcs.PathVSMB,
		Settings: hcsschema.VirtualSmbShare{
			Name:         s.name,
			Path:         k.path,
			AllowedFiles: s.allowed,
			Options:      &s.options,
		},
	})
}
