//go:build linux

package oci

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// maxUsers is how much of a passwd or group file is read.
const maxUsers = 4 << 20

// SetUser gives a process the user that a string names: a name or number, and
// after a colon a group's. Names are looked up in the container's own files.
func SetUser(p *specs.Process, root, name string) error {
	passwd, err := readUsers(root, "/etc/passwd")
	if err != nil {
		return err
	}
	group, err := readUsers(root, "/etc/group")
	if err != nil {
		return err
	}
	if err := unique(name, passwd, group); err != nil {
		return err
	}
	u, err := user.GetExecUser(name, &user.ExecUser{}, strings.NewReader(passwd), strings.NewReader(group))
	if err != nil {
		return fmt.Errorf("finding user %q: %w", clip(name), err)
	}
	p.User = specs.User{UID: uint32(u.Uid), GID: uint32(u.Gid), Umask: p.User.Umask}
	for _, g := range u.Sgids {
		p.User.AdditionalGids = append(p.User.AdditionalGids, uint32(g))
	}
	return nil
}

// unique refuses a name that a file has more than once: which one would be
// meant is a guess.
func unique(name, passwd, group string) error {
	u, g, _ := strings.Cut(name, ":")
	for _, n := range []struct{ name, file, kind string }{{u, passwd, "user"}, {g, group, "group"}} {
		if n.name == "" {
			continue
		}
		count := 0
		for line := range strings.Lines(n.file) {
			if strings.HasPrefix(line, n.name+":") {
				count++
			}
		}
		if count > 1 {
			return fmt.Errorf("%d %ss are called %q", count, n.kind, clip(n.name))
		}
	}
	return nil
}

func readUsers(root, name string) (string, error) {
	f, err := openRegular(root, name)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("reading the container's users: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxUsers+1))
	if err != nil {
		return "", fmt.Errorf("reading the container's users: %w", err)
	}
	if len(b) > maxUsers {
		return "", fmt.Errorf("%s of the container is larger than %d bytes", name, maxUsers)
	}
	return string(b), nil
}
