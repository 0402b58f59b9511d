package layers

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
)

// Limits of a [Config] whose fields are zero.
const (
	DefaultLimit    = 20 << 30
	DefaultMaxLayer = 64 << 30
	DefaultMaxFiles = 2_000_000
)

// A Config says where a cache is and what it accepts. The zero value works.
type Config struct {
	// Dir is the cache's folder, made if need be. Empty means $BYRE_CACHE, or
	// /var/lib/byre/cache for root, or byre in the user's cache folder.
	Dir string
	// Limit is how much space the disks may take before the least recently
	// used go. Zero means [DefaultLimit], or half of the space that is free or
	// the cache's own, whichever is less; negative means no limit.
	Limit int64
	// MaxLayer bounds the size of one unpacked layer, and so of its disk.
	// Zero means [DefaultMaxLayer]; more than 240 GiB is refused.
	MaxLayer int64
	// MaxFiles bounds the number of names in one layer. Zero means
	// [DefaultMaxFiles].
	MaxFiles int
	// PlainHTTP has the registries (host or host:port), beyond those on a
	// loopback address, that may be spoken to without TLS.
	PlainHTTP []string
	// Keychain has the credentials for registries; nil means Docker's.
	Keychain authn.Keychain
	// Logger is told of conversions and evictions; nil means slog.Default.
	Logger *slog.Logger
}

// A Cache holds the disks of layers and the images that were pulled. Its
// methods are safe for concurrent use, also by several processes, and a Cache
// needs no closing.
type Cache struct {
	dir   string
	cfg   Config
	log   *slog.Logger
	locks keyLocks
}

// Open returns the cache that cfg says, and removes what killed processes
// left half made in it. The folder must belong to the user or to root and must
// not be writable by others.
func Open(cfg Config) (*Cache, error) {
	if cfg.MaxLayer < 0 || cfg.MaxLayer > diskMax-16<<30 || cfg.MaxFiles < 0 {
		return nil, fmt.Errorf("%w: limits %d, %d", ErrInvalid, cfg.MaxLayer, cfg.MaxFiles)
	}
	if cfg.MaxLayer == 0 {
		cfg.MaxLayer = DefaultMaxLayer
	}
	if cfg.MaxFiles == 0 {
		cfg.MaxFiles = DefaultMaxFiles
	}
	if cfg.Keychain == nil {
		cfg.Keychain = authn.DefaultKeychain
	}
	c := &Cache{cfg: cfg, log: cfg.Logger}
	if c.log == nil {
		c.log = slog.Default()
	}
	var err error
	if c.dir, err = cacheDir(cfg.Dir); err != nil {
		return nil, fmt.Errorf("opening cache: %w", err)
	}
	for _, d := range []string{"", "layers", "images", "locks", "tmp"} {
		if err := os.MkdirAll(filepath.Join(c.dir, d), 0o700); err != nil {
			return nil, fmt.Errorf("opening cache: %w", c.noSpace(err))
		}
	}
	if err := checkOwner(c.dir); err != nil {
		return nil, fmt.Errorf("opening cache: %w", err)
	}
	if err := c.sweep(); err != nil {
		return nil, fmt.Errorf("opening cache: %w", err)
	}
	return c, nil
}

func cacheDir(dir string) (string, error) {
	if dir == "" {
		dir = os.Getenv("BYRE_CACHE")
	}
	if dir == "" && runtime.GOOS == "linux" && os.Geteuid() == 0 {
		dir = "/var/lib/byre/cache"
	}
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(user, "byre")
	}
	return filepath.Abs(dir)
}

// Dir returns the cache's folder.
func (c *Cache) Dir() string { return c.dir }

func (c *Cache) diskPath(key string) string {
	return filepath.Join(c.dir, "layers", key+diskExt)
}

func (c *Cache) recordPath(key string) string {
	return filepath.Join(c.dir, "layers", key+".json")
}

func (c *Cache) lockPath(key string) string {
	return filepath.Join(c.dir, "locks", key)
}

// sweep removes temporary files and locks that nobody holds any more.
func (c *Cache) sweep() error {
	keys := map[string]bool{}
	for _, d := range []string{"tmp", "locks"} {
		entries, err := os.ReadDir(filepath.Join(c.dir, d))
		if err != nil {
			return err
		}
		for _, e := range entries {
			key, _, _ := strings.Cut(e.Name(), ".")
			keys[key] = true
		}
	}
	for key := range keys {
		l, err := c.tryLock(key)
		if err != nil {
			return err
		}
		if l == nil {
			continue
		}
		c.log.Debug("unfinished layer removed", "layer", key)
		if err := l.release(); err != nil {
			return err
		}
	}
	return nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
