package layers

import (
	"fmt"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// parsePlatform reads os/arch[/variant]; empty means Linux on this host's
// processor.
func parsePlatform(s string) (v1.Platform, error) {
	if s == "" {
		return v1.Platform{OS: "linux", Architecture: runtime.GOARCH}, nil
	}
	part := strings.Split(s, "/")
	for _, p := range part {
		if p == "" {
			part = nil
		}
	}
	if len(part) < 2 || len(part) > 3 {
		return v1.Platform{}, fmt.Errorf("%w: platform %q is not os/arch[/variant]", ErrInvalid, s)
	}
	p := v1.Platform{OS: part[0], Architecture: part[1]}
	if len(part) == 3 {
		p.Variant = part[2]
	}
	return p, nil
}

// choose returns the best manifest of an index for a platform, the first of
// those that are equally good.
func choose(ds []v1.Descriptor, want v1.Platform) (v1.Descriptor, error) {
	best, at := 0, -1
	var have []string
	for i, d := range ds {
		if d.Platform != nil && d.Platform.OS != "unknown" { // attestations
			have = append(have, d.Platform.String())
		}
		if r := fits(d, want); r > best {
			best, at = r, i
		}
	}
	if at < 0 {
		return v1.Descriptor{}, fmt.Errorf("image for %s: %w, there are: %s", want, ErrNotFound, strings.Join(have, ", "))
	}
	return ds[at], nil
}

// fits ranks a manifest. Of one without a platform the image's configuration
// will tell whether it fits.
func fits(d v1.Descriptor, want v1.Platform) int {
	if d.Platform == nil {
		return 1
	}
	return rank(*d.Platform, want)
}

// rank tells how well a platform serves another; 0 means not at all. Without a
// variant asked for, the plain one is best: what runs everywhere.
func rank(have, want v1.Platform) int {
	if have.OS != want.OS || have.Architecture != want.Architecture {
		return 0
	}
	h, w := variant(have), variant(want)
	switch {
	case h == w:
		return 4
	case h == "":
		return 3
	case w == "":
		return 2
	}
	return 0
}

// variant leaves out the variants that only name the default.
func variant(p v1.Platform) string {
	switch p.Architecture + "/" + p.Variant {
	case "arm64/v8", "amd64/v1", "arm/v7":
		return ""
	}
	return p.Variant
}
