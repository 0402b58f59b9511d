package bootfiles

import (
	"bufio"
	"fmt"
	"io"
)

// writeCPIO writes a tree as the archive that the kernel unpacks: "newc" of
// Documentation/driver-api/early-userspace/buffer-format.rst. An entry is 6
// bytes of magic, 13 numbers of 8 hexadecimal digits, the name and the content;
// the last two end on a multiple of four bytes. It is not compressed: under
// emulation unpacking costs more than reading.
func writeCPIO(w io.Writer, t tree) error {
	c := &cpioWriter{w: bufio.NewWriterSize(w, 1<<20)}
	for i := range t {
		c.entry(uint32(i+1), &t[i])
	}
	c.entry(0, &node{path: "TRAILER!!!"})
	c.pad(512)
	if c.err != nil {
		return c.err
	}
	return c.w.Flush()
}

// A cpioWriter keeps its first error.
type cpioWriter struct {
	w   *bufio.Writer
	n   int64
	err error
}

func (c *cpioWriter) entry(ino uint32, n *node) {
	links := 1
	if n.typ() == typeDir {
		links = 2
	}
	const mtime, uid, gid, device, check = 0, 0, 0, 0, 0
	c.write(fmt.Appendf(nil, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		ino, n.mode, uid, gid, links, mtime, len(n.data), device, device, n.major, n.minor, len(n.path)+1, check))
	c.write([]byte(n.path + "\x00"))
	c.pad(4)
	c.write(n.data)
	c.pad(4)
}

func (c *cpioWriter) pad(to int64) { c.write(make([]byte, (to-c.n%to)%to)) }

func (c *cpioWriter) write(b []byte) {
	if c.err != nil {
		return
	}
	n, err := c.w.Write(b)
	c.n += int64(n)
	c.err = err
}
