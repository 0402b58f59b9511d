//go:build linux

package oci

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/guest/network"
	"github.com/byrevm/byre/internal/guest/storage"
)

// The files that a container or pod gets from the guest.
var fileNames = []string{"hostname", "hosts", "resolv.conf"}

// writeFiles writes hostname, hosts and resolv.conf to a container's folder.
func writeFiles(dir, hostname string, dns network.DNS, hosts string) error {
	more, err := network.MoreHosts(hosts)
	if err != nil {
		return err
	}
	d, err := storage.MakeDir(dir, 0o755)
	if err != nil {
		return err
	}
	defer d.Close()
	for i, content := range []string{hostname + "\n", network.Hosts(hostname) + more, dns.ResolvConf()} {
		if err := WriteAt(d, fileNames[i], []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// WriteAt makes a file in a folder anew, whatever is there.
func WriteAt(dir *os.File, name string, content []byte, mode uint32) error {
	if err := unix.Unlinkat(int(dir.Fd()), name, 0); err != nil && err != unix.ENOENT {
		return &os.PathError{Op: "unlink", Path: dir.Name() + "/" + name, Err: err}
	}
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	if err != nil {
		return &os.PathError{Op: "create", Path: dir.Name() + "/" + name, Err: err}
	}
	f := os.NewFile(uintptr(fd), dir.Name()+"/"+name)
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}

// bindFiles binds the files of dir over those of the container, unless the
// specification mounts its own.
func bindFiles(s *specs.Spec, dir string) {
	for _, name := range fileNames {
		target := "/etc/" + name
		if mountsAt(s, target) || !canMountAt(s.Root.Path, target) {
			continue
		}
		options := []string{"bind"}
		if s.Root.Readonly {
			options = append(options, "ro")
		}
		s.Mounts = append(s.Mounts, specs.Mount{Destination: target, Type: "bind", Source: dir + "/" + name, Options: options})
	}
}

func mountsAt(s *specs.Spec, target string) bool {
	for _, m := range s.Mounts {
		if strings.TrimRight(m.Destination, "/") == target {
			return true
		}
	}
	return false
}

// canMountAt tells whether there is, or can be made, a mount point in a root.
func canMountAt(root, target string) bool {
	var st unix.Statfs_t
	if unix.Statfs(root, &st) != nil || st.Flags&unix.ST_RDONLY == 0 {
		return true
	}
	f, err := openIn(root, target, unix.O_PATH)
	if err != nil {
		return false
	}
	f.Close()
	return true
}

// openIn opens a file of a container as the container would: links in it are
// links in the container, and none leads out.
func openIn(root, name string, flags int) (*os.File, error) {
	dir, err := storage.OpenDir(root)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	fd, err := unix.Openat2(int(dir.Fd()), strings.TrimLeft(name, "/"), &unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// openRegular opens a file of a container for reading, and only a regular one:
// a pipe or device would hold up or surprise the reader.
func openRegular(root, name string) (*os.File, error) {
	f, err := openIn(root, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s of the container is not a regular file", name)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
