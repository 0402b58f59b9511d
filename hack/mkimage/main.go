// Command mkimage makes the image that the demo and the boot tests run: a
// static busybox with a link for each applet and the few files that programs
// expect. The same busybox gives the same image, byte for byte.
//
//	go run ./hack/mkimage -busybox /bin/busybox -o DIR|FILE.tar
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

func main() {
	busybox := flag.String("busybox", "/bin/busybox", "the static busybox `file`")
	out := flag.String("o", "", "the OCI layout `folder` to make, or, if it ends in .tar, the OCI archive")
	name := flag.String("name", "docker.io/library/busybox:latest", "the image's name in the layout")
	arch := flag.String("arch", runtime.GOARCH, "the image's architecture")
	list := flag.String("applets", "", "a `file` with the path of an applet a line; default: busybox is asked")
	flag.Parse()
	if *out == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(*busybox, *list, *arch, *name, *out); err != nil {
		fmt.Fprintln(os.Stderr, "mkimage:", err)
		os.Exit(1)
	}
}

func run(busybox, list, arch, name, out string) error {
	program, err := os.ReadFile(busybox)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(program, []byte("\x7fELF")) {
		return fmt.Errorf("%s is not a program", busybox)
	}
	var applets []byte
	if list != "" {
		applets, err = os.ReadFile(list)
	} else {
		applets, err = exec.Command(busybox, "--list-full").Output()
	}
	if err != nil {
		return fmt.Errorf("listing applets: %w", err)
	}
	layer, err := rootFS(program, strings.Fields(string(applets)))
	if err != nil {
		return err
	}
	img, err := image(layer, arch)
	if err != nil {
		return err
	}
	if strings.HasSuffix(out, ".tar") {
		return writeArchive(out, img, name)
	}
	return writeLayout(out, img, name)
}

// image makes an image of one layer.
func image(layer []byte, arch string) (v1.Image, error) {
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(layer)), nil
	}, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	if img, err = mutate.ConfigFile(img, &v1.ConfigFile{
		OS:           "linux",
		Architecture: arch,
		Created:      v1.Time{Time: epoch},
		RootFS:       v1.RootFS{Type: "layers"},
		Config: v1.Config{
			Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			Cmd:        []string{"sh"},
			WorkingDir: "/",
		},
	}); err != nil {
		return nil, err
	}
	return mutate.Append(img, mutate.Addendum{
		Layer:     l,
		History:   v1.History{CreatedBy: "byre hack/mkimage", Created: v1.Time{Time: epoch}},
		MediaType: types.OCILayer,
	})
}
