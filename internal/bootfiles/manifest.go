package bootfiles

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

const (
	manifestName   = "manifest.json"
	manifestFormat = 1
)

// A Manifest describes a folder of boot files. It is the content of the
// folder's manifest.json.
type Manifest struct {
	// Format is the version of this structure, now 1.
	Format int `json:"format"`
	// Kernel is the kernel's release, as uname -r prints it.
	Kernel string `json:"kernel"`
	// Places is the version of the places of devices that the agent knows; 0
	// if it does not say. An engine refuses another than its own.
	Places int `json:"places,omitempty"`
	// Files are the folder's files by name, the manifest itself left out.
	Files map[string]File `json:"files"`
	// Inputs are what the folder was made from: package or kernel and modules,
	// agent, runtime.
	Inputs map[string]File `json:"inputs"`
	// Missing are the modules that byre would ship, and the kernel does not
	// have.
	Missing []string `json:"missing,omitempty"`
	// Notes say why a file that is usually there is not, and what the kernel
	// cannot do.
	Notes []string `json:"notes,omitempty"`
}

// A File is the size and digest of one file.
type File struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

func (m *Manifest) encode(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(m)
}

// Check reads the manifest of the folder dir and checks that each of its files
// is there with its size. It does not read the files: see [Verify]. A folder
// without a manifest gives an error that satisfies errors.Is(err,
// fs.ErrNotExist).
func Check(dir string) (*Manifest, error) {
	b, err := readFile(filepath.Join(dir, manifestName), 1<<20)
	if err != nil {
		return nil, fmt.Errorf("checking boot files: %w", err)
	}
	m := new(Manifest)
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("checking boot files: %s: %w", filepath.Join(dir, manifestName), err)
	}
	if m.Format != manifestFormat {
		return nil, fmt.Errorf("checking boot files: %s has format %d, want %d: make the boot files again",
			filepath.Join(dir, manifestName), m.Format, manifestFormat)
	}
	if len(m.Files) == 0 {
		return nil, fmt.Errorf("checking boot files: %s names no files", filepath.Join(dir, manifestName))
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(m.Files)) {
		if err := checkSize(dir, name, m.Files[name].Size); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("checking boot files: %w", err)
	}
	return m, nil
}

func checkSize(dir, name string, size int64) error {
	if !slices.Contains(fileNames, name) {
		return fmt.Errorf("%q is not the name of a boot file", name)
	}
	fi, err := os.Stat(filepath.Join(dir, name))
	switch {
	case err != nil:
		return err
	case !fi.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", filepath.Join(dir, name))
	case fi.Size() != size:
		return fmt.Errorf("%s has %d bytes, want %d", filepath.Join(dir, name), fi.Size(), size)
	}
	return nil
}

// Verify is Check, and compares the digest of each file.
func Verify(ctx context.Context, dir string) (*Manifest, error) {
	m, err := Check(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(m.Files)) {
		got, err := digest(ctx, filepath.Join(dir, name))
		if err != nil {
			return nil, fmt.Errorf("verifying boot files: %w", err)
		}
		if want := m.Files[name].SHA256; got != want {
			return nil, fmt.Errorf("verifying boot files: %s has SHA-256 %s, want %s", filepath.Join(dir, name), got, want)
		}
	}
	return m, nil
}

// fileNames are all names that a folder of boot files may have.
var fileNames = []string{"initrd.img", "kernel", manifestName, "modules.img", "rootfs.vhd", "vmlinux"}
