//go:build linux

// Command share does to a file system or a stream of a guest what is measured,
// and prints on stderr how many seconds it took.
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

func main() {
	if os.Getpid() == 1 {
		if err := asInit(); err != nil {
			fmt.Println("error:", err)
		}
		select {} // until the VM is ended
	}
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("usage: share in|out|read|write|meta ...")
	}
	size := func(i int) int {
		n, _ := strconv.Atoi(args[i])
		return n
	}
	switch args[0] {
	case "in": // BLOCK
		return timed(func() error { return move(io.Discard, os.Stdin, size(1)) })
	case "out": // BLOCK BYTES
		return timed(func() error { return move(os.Stdout, io.LimitReader(zeros{}, int64(size(2))), size(1)) })
	case "read": // FILE BLOCK
		return timed(func() error {
			f, err := os.Open(args[1])
			if err != nil {
				return err
			}
			defer f.Close()
			return move(io.Discard, f, size(2))
		})
	case "write": // FILE BLOCK BYTES
		return timed(func() error {
			f, err := os.Create(args[1])
			if err != nil {
				return err
			}
			if err := move(f, io.LimitReader(zeros{}, int64(size(3))), size(2)); err != nil {
				return err
			}
			return f.Close()
		})
	case "meta": // FOLDER FILES
		return meta(args[1], size(2))
	}
	return fmt.Errorf("what is %q", args[0])
}

func timed(do func() error) error {
	began := time.Now()
	if err := do(); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "took %.6f\n", time.Since(began).Seconds())
	return nil
}

// move copies by blocks of the same buffer, and nothing else.
func move(w io.Writer, r io.Reader, block int) error {
	b := make([]byte, block)
	for {
		n, err := r.Read(b)
		if n > 0 {
			if _, err := w.Write(b[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// meta creates small files, looks at each, and reads each, and removes them.
func meta(dir string, n int) error {
	dir = filepath.Join(dir, "meta")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	each := func(do func(name string) error) error {
		return timed(func() error {
			for i := range n {
				if err := do(filepath.Join(dir, strconv.Itoa(i))); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := each(func(p string) error { return os.WriteFile(p, []byte("small"), 0o644) }); err != nil {
		return err
	}
	if err := each(func(p string) error { _, err := os.Lstat(p); return err }); err != nil {
		return err
	}
	if err := each(func(p string) error { _, err := os.ReadFile(p); return err }); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}
