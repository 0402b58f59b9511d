package p9

import (
	"fmt"
	"io/fs"

	"github.com/byrevm/byre/internal/hostfs"
	"golang.org/x/sys/unix"
)

// A Share is a folder that clients can attach to, by its Name.
type Share = hostfs.Share

// errGone is what requests on a share that was removed get.
var errGone error = unix.ESTALE

var errExist = fmt.Errorf("a share of that name: %w", fs.ErrExist)
var errNotExist = fmt.Errorf("no share of that name: %w", fs.ErrNotExist)
