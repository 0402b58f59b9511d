package layers

import (
	"errors"
	"fmt"
)

var (
	// ErrNotFound means that the image, the reference or the platform is not
	// where it was looked for.
	ErrNotFound = errors.New("not found")
	// ErrDigest means that content does not match the digest it was asked by.
	ErrDigest = errors.New("content does not match its digest")
	// ErrTooLarge means that a layer exceeds a limit of [Config].
	ErrTooLarge = errors.New("exceeds the limit")
	// ErrInvalid means that an image, layer, reference or option is malformed.
	ErrInvalid = errors.New("invalid")
)

// noSpace adds what to do to an error that says that the disk is full.
func (c *Cache) noSpace(err error) error {
	if err == nil || !isNoSpace(err) {
		return err
	}
	return fmt.Errorf("%s is full: free space or run byre image prune: %w", c.dir, err)
}
