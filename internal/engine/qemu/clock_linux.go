package qemu

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"time"
)

const maxClockConns = 16

// serveClock tells the guest the host's time, for machines have no clock that
// follows the host's after it slept. On a connection the guest sends 8 bytes
// of its choice and gets 16, any number of times:
//
//	0  the 8 bytes of the guest
//	8  nanoseconds since 1970, little-endian
//
// It returns when l and all connections have ended.
func serveClock(l net.Listener) {
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, maxClockConns)
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		select {
		case slots <- struct{}{}:
		default:
			conn.Close()
			continue
		}
		wg.Go(func() {
			defer func() { <-slots }()
			defer conn.Close()
			var b [16]byte
			for {
				if _, err := io.ReadFull(conn, b[:8]); err != nil {
					return
				}
				binary.LittleEndian.PutUint64(b[8:], uint64(time.Now().UnixNano()))
				if _, err := conn.Write(b[:]); err != nil {
					return
				}
			}
		})
	}
}
