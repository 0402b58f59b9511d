package hcstest

import (
	"encoding/binary"
	"net"
	"sync"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/internal/bridge"
)

// A Fault is a way in which an agent misbehaves.
type Fault int

// The faults.
const (
	FaultNone         Fault = iota
	FaultNeverConnect       // the agent never connects
	FaultMute               // it reads and never answers
	FaultGarbage            // it sends what is no message
	FaultOversized          // it announces a message of 4 GiB
	FaultEndless            // it starts a message of the maximum size and never ends it
	FaultFlood              // it sends notifications of unknown containers for ever
	FaultBadJSON            // it answers with what is no JSON
	FaultVersion            // it answers with protocol version 3
	FaultHangUp             // it closes the bridge; the machine lives on
	FaultDie                // the agent crashes, and the machine with it
	FaultPanic              // the kernel panics
	FaultOOM                // the machine runs out of memory
)

// A faultConn is the bridge of a faulty agent: every write is a message.
type faultConn struct {
	net.Conn
	a *agent

	mu   sync.Mutex
	sent int
}

func (a *agent) faulty(c net.Conn) net.Conn {
	if a.g.Fault == FaultNone {
		return c
	}
	return &faultConn{Conn: c, a: a}
}

// CloseWrite is there because the connection has it.
func (c *faultConn) CloseWrite() error { return c.Conn.(interface{ CloseWrite() error }).CloseWrite() }

func (c *faultConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent++
	if c.sent <= c.a.g.FaultAfter {
		return c.Conn.Write(b)
	}
	if err := c.fault(b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// fault does something else than to send the message b.
func (c *faultConn) fault(b []byte) (err error) {
	header := func(size uint32) []byte {
		h := append([]byte(nil), b[:16]...)
		binary.LittleEndian.PutUint32(h[4:], size)
		return h
	}
	body := func(s string) []byte { return append(header(uint32(16+len(s))), s...) }
	m := c.a.m
	switch c.a.g.Fault {
	case FaultMute:
	case FaultGarbage:
		_, err = c.Conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	case FaultOversized:
		_, err = c.Conn.Write(header(0xffffffff))
	case FaultEndless:
		_, err = c.Conn.Write(append(header(bridge.MaxMessage), make([]byte, 1000)...))
	case FaultFlood:
		s := `{"ContainerId":"nobody","Type":"UnexpectedExit"}`
		f := body(s)
		binary.LittleEndian.PutUint32(f, 0x30100101)
		for err == nil && m.Context().Err() == nil {
			_, err = c.Conn.Write(f)
		}
	case FaultBadJSON:
		_, err = c.Conn.Write(body(`{"Result":`))
	case FaultVersion:
		_, err = c.Conn.Write(body(`{"Result":0,"Version":3,"Capabilities":{"RuntimeOsType":"Linux"}}`))
	case FaultHangUp:
		err = c.Conn.Close()
	case FaultDie:
		m.Exit(&hcs.Exit{Kind: hcs.ExitAgent, Detail: "agent exited with code 2"})
	case FaultPanic:
		m.Exit(&hcs.Exit{Kind: hcs.ExitPanic, Log: []string{"Kernel panic - not syncing: test"}})
	case FaultOOM:
		m.Exit(&hcs.Exit{Kind: hcs.ExitOOM})
	}
	return err
}
