package main

import (
	"archive/tar"
	"bytes"
	"path"
	"sort"
	"strings"
	"time"
)

var epoch = time.Unix(0, 0).UTC()

const (
	passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
	group  = "root:x:0:\nnobody:x:65534:\n"
)

// rootFS returns the layer: directories, files, and a hard link for each
// applet, all sorted.
func rootFS(busybox []byte, applets []string) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	add := func(h tar.Header, data []byte) error {
		h.ModTime, h.Format, h.Size = epoch, tar.FormatPAX, int64(len(data))
		if err := w.WriteHeader(&h); err != nil {
			return err
		}
		_, err := w.Write(data)
		return err
	}

	mode := map[string]int64{"root": 0o700, "tmp": 0o1777, "var/tmp": 0o1777}
	dirs := map[string]bool{}
	for _, d := range []string{"bin", "dev", "etc", "home", "proc", "root", "run", "sbin", "sys", "tmp",
		"usr", "usr/bin", "usr/sbin", "var", "var/log", "var/tmp"} {
		dirs[d] = true
	}
	for _, a := range applets {
		for d := path.Dir(a); d != "." && d != "/"; d = path.Dir(d) {
			dirs[d] = true
		}
	}
	for _, d := range sorted(dirs) {
		m, ok := mode[d]
		if !ok {
			m = 0o755
		}
		if err := add(tar.Header{Typeflag: tar.TypeDir, Name: d + "/", Mode: m}, nil); err != nil {
			return nil, err
		}
	}
	for _, f := range []struct {
		name string
		mode int64
		data []byte
	}{
		{"bin/busybox", 0o755, busybox},
		{"etc/group", 0o644, []byte(group)},
		{"etc/passwd", 0o644, []byte(passwd)},
	} {
		if err := add(tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode}, f.data); err != nil {
			return nil, err
		}
	}
	links := map[string]bool{}
	for _, a := range applets {
		if a = strings.TrimPrefix(path.Clean("/"+a), "/"); a != "bin/busybox" && !dirs[a] {
			links[a] = true
		}
	}
	for _, a := range sorted(links) {
		if err := add(tar.Header{Typeflag: tar.TypeLink, Name: a, Linkname: "bin/busybox", Mode: 0o755}, nil); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

func sorted(set map[string]bool) []string {
	out := make([]string, 0, len(set))
	for s := range set {
		out = append(out, s)
	}
	sort.Strings(out)
	return out
}
