// Command socket is the client in the guest of the tests of pipes.
//
//	socket echo PATH N   N connections at once to a server that echoes
//	socket mode PATH     prints the mode and owner of a socket
//	socket hold PATH     connects, says so, and waits for the end
//	socket none PATH     succeeds if nobody can connect
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
)

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func run(do, path string, args []string) error {
	switch do {
	case "echo":
		n, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		return echo(path, n)
	case "mode":
		fi, err := os.Stat(path)
		if err != nil {
			return err
		}
		st := fi.Sys().(*syscall.Stat_t)
		fmt.Println(fi.Mode(), st.Uid, st.Gid)
	case "hold":
		c, err := net.Dial("unix", path)
		if err != nil {
			return err
		}
		fmt.Println("connected")
		if n, err := io.Copy(io.Discard, c); n != 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
			return fmt.Errorf("%d bytes, %w", n, err)
		}
	case "none":
		if c, err := net.Dial("unix", path); err == nil {
			c.Close()
			return errors.New("connected")
		}
	}
	return nil
}

// echo has all connections open before it uses any.
func echo(path string, n int) error {
	var conns []*net.UnixConn
	for range n {
		c, err := net.Dial("unix", path)
		if err != nil {
			return err
		}
		conns = append(conns, c.(*net.UnixConn))
	}
	results := make(chan error)
	for i, c := range conns {
		go func() { results <- talk(c, bytes.Repeat([]byte{byte(i)}, 1+i*500)) }()
	}
	var errs []error
	for range conns {
		errs = append(errs, <-results)
	}
	return errors.Join(errs...)
}

// talk ends its half and reads the other to its end.
func talk(c *net.UnixConn, data []byte) error {
	defer c.Close()
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(data)
		sent <- errors.Join(err, c.CloseWrite())
	}()
	got, err := io.ReadAll(c)
	if !bytes.Equal(got, data) {
		err = errors.Join(err, fmt.Errorf("got %d bytes of %d", len(got), len(data)))
	}
	return errors.Join(err, <-sent)
}
