package pipe

import (
	"errors"
	"io/fs"
	"os"
)

var errNoSocket = errors.New("not a socket")

// An Access says who may connect to a socket.
type Access struct {
	Mode     uint32 // permissions
	UID, GID uint32 // owner
}

// Stat returns who may connect to the socket at path; a symbolic link is
// followed.
func Stat(path string) (Access, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return Access{}, err
	}
	if fi.Mode().Type() != fs.ModeSocket {
		return Access{}, &os.PathError{Op: "stat socket", Path: path, Err: errNoSocket}
	}
	return access(fi)
}
