//go:build linux

package oci

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestJoinNetwork(t *testing.T) {
	inNamespace(t)
	for _, c := range []struct {
		name       string
		namespaces []specs.LinuxNamespace
		fail       bool
	}{
		{"beside others", []specs.LinuxNamespace{{Type: specs.MountNamespace}}, false},
		{"in place of its own", []specs.LinuxNamespace{{Type: specs.NetworkNamespace}, {Type: specs.MountNamespace}}, false},
		{"fails", nil, true},
		{"bad hosts", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			users := 0
			o := options("c1")
			o.Join = func(ns string) (string, func(), error) {
				if c.fail {
					return "", nil, errors.New("broken")
				}
				users++
				return "/proc/1/fd/9", func() { users-- }, nil
			}
			s := spec(t)
			s.Linux = &specs.Linux{Namespaces: c.namespaces}
			s.Windows = &specs.Windows{Network: &specs.WindowsNetwork{NetworkNamespace: "net"}}
			s.Annotations = map[string]string{AnnotationHosts: "10.0.0.9 nine"}
			bad := c.name == "bad hosts"
			if bad {
				s.Annotations[AnnotationHosts] = "10.0.0.9 nine # ten"
			}
			p, err := Prepare(s, o)
			if (err != nil) != (c.fail || bad) {
				t.Fatalf("got %v", err)
			}
			if err == nil {
				if got, want := fmt.Sprint(s.Linux.Namespaces), "{network /proc/1/fd/9}"; users != 1 || strings.Count(got, "{network ") != 1 || !strings.Contains(got, want) {
					t.Errorf("got %s, %d users, want %s", got, users, want)
				}
				if got := content(t, "/run/gcs/c/c1/hosts"); !strings.HasSuffix(got, "\n10.0.0.9 nine\n") {
					t.Errorf("got %q", got)
				}
				if err := p.Undo(); err != nil {
					t.Error(err)
				}
			}
			if users != 0 {
				t.Errorf("%d users are left", users)
			}
		})
	}
}
