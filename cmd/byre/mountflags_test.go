package main

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestMountFlags(t *testing.T) {
	dir := t.TempDir()
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	bind := func(source, target, mode string) specs.Mount {
		return specs.Mount{Type: "bind", Source: source, Destination: target, Options: []string{"rbind", mode}}
	}
	for _, c := range []struct {
		args []string
		want specs.Mount
	}{
		{[]string{"-v", dir + ":/a"}, bind(dir, "/a", "rw")},
		{[]string{"-v", dir + ":/a:rw"}, bind(dir, "/a", "rw")},
		{[]string{"-v", dir + ":/a:ro"}, bind(dir, "/a", "ro")},
		{[]string{"-v", ".:/a"}, bind(here, "/a", "rw")},
		{[]string{"--mount", "type=bind,source=" + dir + ",target=/a"}, bind(dir, "/a", "rw")},
		{[]string{"--mount", "type=bind,src=" + dir + ",dst=/a,readonly"}, bind(dir, "/a", "ro")},
		{[]string{"--mount", "type=bind,src=" + dir + ",destination=/a,ro=false"}, bind(dir, "/a", "rw")},
	} {
		o, err := parse(t, c.args...).spec(nil)
		if err != nil || !reflect.DeepEqual(o.Mounts, []specs.Mount{c.want}) {
			t.Errorf("%q: got %+v, %v", c.args, o.Mounts, err)
		}
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"-v", dir}, "want /host:/guest"},
		{[]string{"-v", dir + ":/a:ro:x"}, "want /host:/guest"},
		{[]string{"-v", dir + ":/a:z"}, "not known"},
		{[]string{"-v", "name:/a"}, "no named volumes"},
		{[]string{"-v", `\\.\pipe\x:/a`}, "no Windows pipes"},
		{[]string{"-v", dir + ":a"}, "absolute"},
		{[]string{"-v", filepath.Join(dir, "none") + ":/a"}, "no such file"},
		{[]string{"--mount", "type=volume,source=x,target=/a"}, "type"},
		{[]string{"--mount", "source=" + dir + ",target=/a"}, "type"},
		{[]string{"--mount", "type=bind,target=/a"}, "no source"},
		{[]string{"--mount", "type=bind,source=" + dir}, "absolute"},
		{[]string{"--mount", "type=bind,source=" + dir + ",target=/a,ro=perhaps"}, "true or false"},
		{[]string{"--mount", "type=bind,source=" + dir + ",target=/a,bind-propagation=shared"}, "not known"},
		{[]string{"--mount", `"`}, "--mount"},
	} {
		if _, err := parse(t, c.args...).spec(nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %v, want %q", c.args, err, c.want)
		}
	}
}
