package main

import (
	"archive/tar"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// writeLayout replaces the OCI layout in dir, which must be one or be empty.
func writeLayout(dir string, img v1.Image, name string) error {
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > 0 {
		if _, err := os.Stat(filepath.Join(dir, "oci-layout")); err != nil {
			return fmt.Errorf("%s is not empty and not an OCI layout", dir)
		}
		for _, part := range []string{"blobs", "index.json", "oci-layout"} {
			if err := os.RemoveAll(filepath.Join(dir, part)); err != nil {
				return err
			}
		}
	}
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	conf, err := img.ConfigFile()
	if err != nil {
		return err
	}
	return p.AppendImage(img,
		layout.WithAnnotations(map[string]string{
			"io.containerd.image.name":          name,
			"org.opencontainers.image.ref.name": name,
		}),
		layout.WithPlatform(v1.Platform{OS: conf.OS, Architecture: conf.Architecture}))
}

// writeArchive writes the layout as a tar file.
func writeArchive(file string, img v1.Image, name string) (err error) {
	dir, err := os.MkdirTemp(filepath.Dir(file), ".mkimage-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := writeLayout(dir, img, name); err != nil {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	w := tar.NewWriter(f)
	root := os.DirFS(dir)
	// WalkDir is sorted.
	err = fs.WalkDir(root, ".", func(p string, e fs.DirEntry, err error) error {
		if err != nil || p == "." {
			return err
		}
		h := &tar.Header{Name: p, Mode: 0o644, ModTime: epoch, Typeflag: tar.TypeReg}
		var data []byte
		if e.IsDir() {
			h.Name, h.Mode, h.Typeflag = p+"/", 0o755, tar.TypeDir
		} else if data, err = fs.ReadFile(root, p); err != nil {
			return err
		}
		h.Size = int64(len(data))
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	})
	if err != nil {
		return err
	}
	return w.Close()
}
