package hns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"github.com/Microsoft/go-winio/pkg/guid"
)

// The ids of what a session makes say whose it is, so that nothing else has to
// be written down: they are GUIDs of version 8 (RFC 9562), and only who may
// use the service can give such an id.
//
//	62797265-PPPP-8SSS-SSPP-PPNNNNNNNNSS
//
// 62797265 is "byre", P the id of the process, S a sum over when it started
// (26 bits, of which the first of the fourth group has two less) and N a
// number that the process has not used before.
const hcnMark = 0x62797265

const hcnSumBits = 26

// hcnSum is what ids say about when a process started.
func hcnSum(started uint64) uint32 {
	h := fnv.New32a()
	h.Write(binary.LittleEndian.AppendUint64(nil, started))
	return h.Sum32() >> (32 - hcnSumBits)
}

func hcnOwnedID(pid, sum, n uint32) guid.GUID {
	g := guid.GUID{Data1: hcnMark, Data2: uint16(pid >> 16), Data3: 0x8000 | uint16(sum>>14)}
	g.Data4[0] = 0x80 | byte(sum>>8)&0x3f
	binary.BigEndian.PutUint16(g.Data4[1:], uint16(pid))
	binary.BigEndian.PutUint32(g.Data4[3:], n)
	g.Data4[7] = byte(sum)
	return g
}

// hcnOwnerOf reads an id that hcnOwnedID has made.
func hcnOwnerOf(g guid.GUID) (pid, sum uint32, ok bool) {
	if g.Data1 != hcnMark || g.Data3>>12 != 8 || g.Data4[0]>>6 != 2 {
		return 0, 0, false
	}
	pid = uint32(g.Data2)<<16 | uint32(binary.BigEndian.Uint16(g.Data4[1:]))
	return pid, uint32(g.Data3&0xfff)<<14 | uint32(g.Data4[0]&0x3f)<<8 | uint32(g.Data4[7]), true
}

// hcnNumber numbers what this process makes.
var hcnNumber struct {
	sync.Mutex
	n uint32
}

// An hcnOwner is a session as the owner of what it makes.
type hcnOwner struct {
	pid, sum uint32

	mu   sync.Mutex
	made map[guid.GUID]hcnKind // may have been made
}

func (o *hcnOwner) newID(kind hcnKind) guid.GUID {
	hcnNumber.Lock()
	hcnNumber.n++
	g := hcnOwnedID(o.pid, o.sum, hcnNumber.n)
	hcnNumber.Unlock()
	o.note(g, kind)
	return g
}

func (o *hcnOwner) note(g guid.GUID, kind hcnKind) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.made[g] = kind
}

func (o *hcnOwner) forget(g guid.GUID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.made, g)
}

func (o *hcnOwner) all(kind hcnKind) (ids []guid.GUID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for g, k := range o.made {
		if k == kind {
			ids = append(ids, g)
		}
	}
	return ids
}

// hcnProcesses tells when processes started. For one that does not run it
// fails with fs.ErrNotExist.
type hcnProcesses func(pid uint32) (started uint64, err error)

// hcnPatience is how long a session waits for the service at its two ends.
const hcnPatience = time.Minute

type hcnSession struct {
	hcn
}

// newHCNSession begins a session of process pid. What dead processes have left
// is removed; what cannot be removed stays until the next time.
func newHCNSession(s hcnService, processes hcnProcesses, pid uint32) (*hcnSession, error) {
	ctx, cancel := context.WithTimeout(context.Background(), hcnPatience)
	defer cancel()
	started, err := processes(pid)
	if err != nil {
		return nil, fmt.Errorf("hns: beginning a session: when this process started: %w", err)
	}
	n := &hcnSession{hcn{service: s, owner: &hcnOwner{pid: pid, sum: hcnSum(started), made: make(map[guid.GUID]hcnKind)}}}
	err = do(ctx, func() error { return n.sweep(processes) })
	switch {
	case errors.Is(err, ErrNotSupported): // there is no service
		return nil, fmt.Errorf("hns: beginning a session: %w", err)
	case err != nil:
		slog.Warn("networks of ended processes not removed", "err", err)
	}
	return n, nil
}

// sweep removes what processes that have ended left.
func (s *hcnSession) sweep(processes hcnProcesses) error {
	var errs []error
	for _, kind := range []hcnKind{hcnEndpoints, hcnNamespaces} {
		ids, err := s.list(kind)
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		for _, id := range ids {
			pid, sum, ok := hcnOwnerOf(id)
			if !ok {
				continue
			}
			started, err := processes(pid)
			if err == nil && hcnSum(started) == sum || err != nil && !errors.Is(err, fs.ErrNotExist) {
				continue // it lives, or may
			}
			errs = append(errs, s.remove(kind, id))
		}
	}
	return errors.Join(errs...)
}

// remove removes what may be gone.
func (s *hcnSession) remove(kind hcnKind, id guid.GUID) (err error) {
	if kind == hcnEndpoints {
		err = s.removeEndpoint(context.Background(), id.String())
	} else {
		err = s.removeNamespace(context.Background(), id.String())
	}
	if errors.Is(err, ErrNotFound) {
		s.owner.forget(id)
		return nil
	}
	if err != nil {
		return fmt.Errorf("removing %s %s: %w", kind, id, err)
	}
	return nil
}

// Close implements [Session]. What could not be removed the next Close tries
// again; with nothing left it does nothing.
func (s *hcnSession) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), hcnPatience)
	defer cancel()
	err := do(ctx, func() error {
		var errs []error
		for _, kind := range []hcnKind{hcnEndpoints, hcnNamespaces} {
			for _, id := range s.owner.all(kind) {
				errs = append(errs, s.remove(kind, id))
			}
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return fmt.Errorf("hns: ending a session: %w", err)
	}
	return nil
}
