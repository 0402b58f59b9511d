package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// mounts returns what --volume and --mount say. What they name on the host
// must be there.
func (f *runFlags) mounts() ([]specs.Mount, error) {
	var all []specs.Mount
	for _, v := range f.volume {
		m, err := volume(v)
		if err != nil {
			return nil, fmt.Errorf("--volume %s: %w", v, err)
		}
		all = append(all, m)
	}
	for _, v := range f.mount {
		m, err := mount(v)
		if err != nil {
			return nil, fmt.Errorf("--mount %s: %w", v, err)
		}
		all = append(all, m)
	}
	return all, nil
}

// volume parses /host:/guest[:ro|rw].
func volume(s string) (specs.Mount, error) {
	drive := filepath.VolumeName(s) // its colon divides nothing
	parts := strings.Split(s[len(drive):], ":")
	parts[0] = drive + parts[0]
	if len(parts) < 2 || len(parts) > 3 {
		return specs.Mount{}, errors.New("want /host:/guest or /host:/guest:ro")
	}
	readOnly := false
	if len(parts) == 3 {
		switch parts[2] {
		case "ro":
			readOnly = true
		case "rw":
		default:
			return specs.Mount{}, fmt.Errorf("option %q is not known: ro or rw", parts[2])
		}
	}
	if strings.HasPrefix(parts[0], `\\.\pipe\`) {
		return specs.Mount{}, errors.New("a Linux container has no Windows pipes: give the path of a Unix socket")
	}
	if !strings.ContainsRune(parts[0], filepath.Separator) && parts[0] != "." && parts[0] != ".." {
		return specs.Mount{}, fmt.Errorf("there are no named volumes: for a folder write ./%s", parts[0])
	}
	return bindMount(parts[0], parts[1], readOnly)
}

// mount parses a list of key=value.
func mount(s string) (specs.Mount, error) {
	fields, err := csv.NewReader(strings.NewReader(s)).Read()
	if err != nil {
		return specs.Mount{}, err
	}
	kind, source, target, readOnly := "", "", "", false
	for _, field := range fields {
		key, value, set := strings.Cut(field, "=")
		switch strings.ToLower(key) {
		case "type":
			kind = value
		case "source", "src":
			source = value
		case "target", "destination", "dst":
			target = value
		case "readonly", "ro":
			readOnly = true
			if set {
				if readOnly, err = strconv.ParseBool(value); err != nil {
					return specs.Mount{}, fmt.Errorf("%s: want true or false", field)
				}
			}
		default:
			return specs.Mount{}, fmt.Errorf("%q is not known: type, source, target and readonly are", key)
		}
	}
	switch {
	case kind != "bind":
		return specs.Mount{}, fmt.Errorf("type %q is not there: type=bind is, and --tmpfs", kind)
	case source == "":
		return specs.Mount{}, errors.New("there is no source")
	}
	return bindMount(source, target, readOnly)
}

func bindMount(source, target string, readOnly bool) (specs.Mount, error) {
	if !strings.HasPrefix(target, "/") {
		return specs.Mount{}, fmt.Errorf("the place in the container %q is not an absolute path", target)
	}
	abs, err := filepath.Abs(source)
	if err != nil {
		return specs.Mount{}, err
	}
	if _, err := os.Stat(abs); err != nil {
		return specs.Mount{}, err
	}
	m := specs.Mount{Type: "bind", Source: abs, Destination: target, Options: []string{"rbind", "rw"}}
	if readOnly {
		m.Options[1] = "ro"
	}
	return m, nil
}
