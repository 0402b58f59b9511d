// Command net is for containers of tests, whose busybox has no datagrams: it
// answers them, or sends one and prints the answer.
//
//	net echo PORT
//	net ask ADDRESS TEXT
package main

import (
	"fmt"
	"net"
	"os"
	"time"
)

func main() {
	var err error
	switch {
	case len(os.Args) == 3 && os.Args[1] == "echo":
		err = echo(os.Args[2])
	case len(os.Args) == 4 && os.Args[1] == "ask":
		err = ask(os.Args[2], os.Args[3])
	default:
		err = fmt.Errorf("usage: net echo PORT | net ask ADDRESS TEXT")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "net:", err)
		os.Exit(1)
	}
}

func echo(port string) error {
	c, err := net.ListenPacket("udp", ":"+port)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	buf := make([]byte, 65536)
	for {
		k, from, err := c.ReadFrom(buf)
		if err != nil {
			return err
		}
		if _, err := c.WriteTo(buf[:k], from); err != nil {
			return err
		}
	}
}

func ask(address, text string) error {
	c, err := net.Dial("udp", address)
	if err != nil {
		return err
	}
	if _, err := c.Write([]byte(text)); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	buf := make([]byte, 65536)
	k, err := c.Read(buf)
	if err != nil {
		return err
	}
	fmt.Printf("%s", buf[:k])
	return nil
}
