package virtiofs

import "golang.org/x/sys/unix"

// init: major[4] minor[4] max_readahead[4] flags[4] and what later versions have
// -> major[4] minor[4] max_readahead[4] flags[4] max_background[2]
// congestion_threshold[2] max_write[4] time_gran[4] max_pages[2] map_alignment[2]
// flags2[4] unused[28]
//
// It begins a driver's session. What one before has left is forgotten.
func (r *request) init() error {
	major, minor, ahead, flags := r.d.u32(), r.d.u32(), r.d.u32(), r.d.u32()
	if r.d.bad || r.node > rootID {
		return unix.EINVAL
	}
	r.s.reset()
	e := &r.e
	e.u32(majorVersion)
	if major > majorVersion { // it asks again
		e.u32(minorVersion)
		e.zero(56)
		return nil
	}
	if major < majorVersion || minor < minorOldest {
		return unix.EPROTO
	}
	e.u32(min(minor, minorVersion))
	e.u32(ahead)
	e.u32(flags & initFlags)
	e.u32(0) // the guest chooses how many requests are under way
	e.u32(maxData)
	e.u32(1) // times are of nanoseconds
	e.u16(maxPages)
	e.u16(0)
	e.zero(4 + 28)
	r.s.ready.Store(true)
	return nil
}

// destroy ends the session.
func (r *request) destroy() error {
	r.s.reset()
	return nil
}
