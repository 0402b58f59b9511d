package layers

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	server "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// A testRegistry is one in memory that counts, and that can be made to err.
type testRegistry struct {
	host  string
	asked atomic.Int64
	mu    sync.Mutex
	edit  func(w http.ResponseWriter, r *http.Request) bool // reports whether it answered
}

func (r *testRegistry) set(edit func(w http.ResponseWriter, r *http.Request) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.edit = edit
}

func newRegistry(t testing.TB) *testRegistry {
	t.Helper()
	inner := server.New(server.Logger(log.New(io.Discard, "", 0)))
	r := &testRegistry{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.asked.Add(1)
		r.mu.Lock()
		edit := r.edit
		r.mu.Unlock()
		if edit == nil || !edit(w, req) {
			inner.ServeHTTP(w, req)
		}
	}))
	t.Cleanup(s.Close)
	r.host = strings.TrimPrefix(s.URL, "http://")
	return r
}

func (r *testRegistry) ref(t testing.TB, repo string) name.Reference {
	t.Helper()
	ref, err := name.ParseReference(r.host + "/" + repo)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// randomImage is an image for a processor, of layers with random content.
func randomImage(t testing.TB, arch string, layers int) v1.Image {
	t.Helper()
	img, err := random.Image(10_000, int64(layers))
	if err != nil {
		t.Fatal(err)
	}
	conf, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	conf = conf.DeepCopy()
	conf.OS, conf.Architecture = "linux", arch
	if img, err = mutate.ConfigFile(img, conf); err != nil {
		t.Fatal(err)
	}
	return img
}

func (r *testRegistry) push(t testing.TB, repo string, img v1.Image) string {
	t.Helper()
	if err := remote.Write(r.ref(t, repo), img); err != nil {
		t.Fatal(err)
	}
	return r.host + "/" + repo
}

func TestPullPolicy(t *testing.T) {
	r := newRegistry(t)
	ref := r.push(t, "a/b:1", randomImage(t, runtime.GOARCH, 3))
	c := openCache(t, Config{})

	if _, err := c.Get(t.Context(), ref, GetOptions{Pull: PullNever}); !errors.Is(err, ErrNotFound) {
		t.Errorf("never: got %v, want ErrNotFound", err)
	}
	var stages sync.Map
	img := mustGet(t, c, ref, GetOptions{Progress: func(e Event) {
		if e.Done < 0 || e.Done > e.Total || e.Layer == "" {
			t.Errorf("got event %+v", e)
		}
		if e.Done == e.Total {
			stages.Store(e.Stage+e.Layer, true)
		}
	}})
	if img.Ref != ref || len(img.Layers) != 3 {
		t.Errorf("got %s with %d layers", img.Ref, len(img.Layers))
	}
	for _, l := range img.Layers {
		for _, s := range []string{"pull", "convert"} {
			if _, ok := stages.Load(s + l.DiffID); !ok {
				t.Errorf("no last event of %s %s", s, l.DiffID)
			}
		}
	}
	asked := r.asked.Load()
	for _, p := range []Pull{"", PullMissing, PullNever} {
		if got := mustGet(t, c, ref, GetOptions{Pull: p}); got.Digest != img.Digest {
			t.Errorf("%s: got %s, want %s", p, got.Digest, img.Digest)
		}
	}
	if n := r.asked.Load() - asked; n != 0 {
		t.Errorf("an image in the cache asked the registry %d times", n)
	}

	// A tag that moved is seen by always, and by missing from then on.
	r.push(t, "a/b:1", randomImage(t, runtime.GOARCH, 1))
	if got := mustGet(t, c, ref, GetOptions{}); got.Digest != img.Digest {
		t.Errorf("missing: got %s, want the old %s", got.Digest, img.Digest)
	}
	moved := mustGet(t, c, ref, GetOptions{Pull: PullAlways})
	if moved.Digest == img.Digest {
		t.Error("always: got the old image")
	}
	if got := mustGet(t, c, ref, GetOptions{}); got.Digest != moved.Digest {
		t.Errorf("got %s, want %s", got.Digest, moved.Digest)
	}

	// A layer that went is pulled again, unless that is forbidden.
	moved.Close()
	for _, d := range []string{moved.Layers[0].Path} {
		if err := os.Remove(d); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Get(t.Context(), ref, GetOptions{Pull: PullNever}); !errors.Is(err, ErrNotFound) {
		t.Errorf("never: got %v, want ErrNotFound", err)
	}
	mustGet(t, c, ref, GetOptions{})
	if _, err := c.Get(t.Context(), ref, GetOptions{Pull: "sometimes"}); !errors.Is(err, ErrInvalid) {
		t.Errorf("got %v, want ErrInvalid", err)
	}
	noLeftovers(t, c)
}

func TestPlatform(t *testing.T) {
	r := newRegistry(t)
	index := v1.ImageIndex(empty.Index)
	for _, p := range []v1.Platform{
		{OS: "unknown", Architecture: "unknown"}, {OS: "linux", Architecture: "arm", Variant: "v6"},
		{OS: "linux", Architecture: "arm", Variant: "v7"}, {OS: "linux", Architecture: "arm64", Variant: "v8"},
		{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "amd64", Variant: "v3"},
	} {
		img := randomImage(t, p.Architecture, 1)
		conf, _ := img.ConfigFile()
		conf = conf.DeepCopy()
		conf.Variant, conf.OS, conf.Author = p.Variant, p.OS, p.String()
		img, _ = mutate.ConfigFile(img, conf)
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &p}})
	}
	if err := remote.WriteIndex(r.ref(t, "multi:latest"), index); err != nil {
		t.Fatal(err)
	}
	c := openCache(t, Config{})
	for _, tt := range []struct{ ask, want string }{
		{"", "linux/" + runtime.GOARCH},
		{"linux/arm64", "linux/arm64/v8"}, {"linux/arm64/v8", "linux/arm64/v8"},
		{"linux/arm", "linux/arm/v7"}, {"linux/arm/v6", "linux/arm/v6"},
		{"linux/amd64", "linux/amd64"}, {"linux/amd64/v3", "linux/amd64/v3"}, {"linux/amd64/v2", "linux/amd64"},
	} {
		img := mustGet(t, c, r.host+"/multi", GetOptions{Platform: tt.ask})
		if got := strings.TrimSuffix(img.Config.Author, "/v8"); got != strings.TrimSuffix(tt.want, "/v8") {
			t.Errorf("%q: got %s, want %s", tt.ask, got, tt.want)
		}
	}
	for _, p := range []string{"linux/riscv64", "windows/amd64"} {
		if _, err := c.Get(t.Context(), r.host+"/multi", GetOptions{Platform: p}); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: got %v, want ErrNotFound", p, err)
		}
	}
	for _, p := range []string{"linux", "/amd64", "linux/", "a/b/c/d", "linux/arm/"} {
		if _, err := c.Get(t.Context(), r.host+"/multi", GetOptions{Platform: p}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", p, err)
		}
	}
	// An image for one platform is not run on another.
	one := r.push(t, "one:latest", randomImage(t, "mips", 1))
	if _, err := c.Get(t.Context(), one, GetOptions{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	entries, err := c.List()
	if err != nil || len(entries) != 7 {
		t.Errorf("got %d entries, %v, want 7", len(entries), err)
	}
	if err := c.Remove(t.Context(), r.host+"/multi:latest"); err != nil {
		t.Error(err)
	}
	if entries, err := c.List(); err != nil || len(entries) != 0 {
		t.Errorf("got %v, %v after removal", entries, err)
	}
}

// TestBadRegistry has a registry that does not do what it should.
func TestBadRegistry(t *testing.T) {
	isBlob := func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/blobs/") }
	var broken atomic.Int64
	tests := []struct {
		name string
		edit func(w http.ResponseWriter, r *http.Request) bool
		want error
	}{
		{"no image", func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/v2/" {
				return false
			}
			http.NotFound(w, r)
			return true
		}, ErrNotFound},
		{"other blobs", func(w http.ResponseWriter, r *http.Request) bool {
			if isBlob(r) {
				fmt.Fprint(w, "something else")
			}
			return isBlob(r)
		}, errAny},
		{"no blobs", func(w http.ResponseWriter, r *http.Request) bool {
			if isBlob(r) {
				http.NotFound(w, r)
			}
			return isBlob(r)
		}, ErrNotFound},
		{"other manifest", func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, "/manifests/") {
				w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
				fmt.Fprint(w, `{"schemaVersion":2,"config":{},"layers":[]}`)
				return true
			}
			return false
		}, errAny},
		{"huge manifest", func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, "/manifests/") {
				w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
				for range 1 << 10 {
					w.Write(make([]byte, 64<<10))
				}
				return true
			}
			return false
		}, errAny},
		{"to plain HTTP elsewhere", func(w http.ResponseWriter, r *http.Request) bool {
			if isBlob(r) {
				http.Redirect(w, r, "http://192.0.2.1/blob", http.StatusTemporaryRedirect)
			}
			return isBlob(r)
		}, ErrInvalid},
		{"interrupted twice", func(w http.ResponseWriter, r *http.Request) bool {
			if isBlob(r) && broken.Add(1) <= 2 {
				w.Header().Set("Content-Length", "100000")
				fmt.Fprint(w, "begin")
				return true
			}
			return false
		}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRegistry(t)
			img := randomImage(t, runtime.GOARCH, 2)
			ref := r.push(t, "img:1", img)
			if tt.want == nil {
				// The configuration is no layer, and is not tried again.
				conf, err := img.ConfigName()
				if err != nil {
					t.Fatal(err)
				}
				edit := tt.edit
				tt.edit = func(w http.ResponseWriter, req *http.Request) bool {
					return !strings.Contains(req.URL.Path, conf.Hex) && edit(w, req)
				}
			}
			r.set(tt.edit)
			c := openCache(t, Config{})
			_, err := c.Get(t.Context(), ref, GetOptions{})
			switch {
			case tt.want == nil && err != nil, tt.want != nil && err == nil,
				tt.want != nil && tt.want != errAny && !errors.Is(err, tt.want):
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if n := diskCount(t, c); err != nil && n != 0 {
				t.Errorf("got %d disks", n)
			}
			if es, lerr := c.List(); lerr != nil || err != nil && len(es) != 0 {
				t.Errorf("got images %v, %v", es, lerr)
			}
			noLeftovers(t, c)
		})
	}
}

var errAny = errors.New("any")

func TestCredentials(t *testing.T) {
	r := newRegistry(t)
	ref := r.push(t, "secret:1", randomImage(t, runtime.GOARCH, 1))
	r.set(func(w http.ResponseWriter, req *http.Request) bool {
		if u, p, ok := req.BasicAuth(); ok && u == "me" && p == "pw" {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	d := t.TempDir()
	conf := fmt.Sprintf(`{"auths":{%q:{"auth":"bWU6cHc="}}}`, r.host)
	if err := os.WriteFile(filepath.Join(d, "config.json"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_CONFIG", d)
	mustGet(t, openCache(t, Config{}), ref, GetOptions{})
	if _, err := openCache(t, Config{Keychain: authn.NewMultiKeychain()}).Get(t.Context(), ref, GetOptions{}); err == nil {
		t.Error("got the image without credentials")
	}
}

func TestRefs(t *testing.T) {
	c := openCache(t, Config{PlainHTTP: []string{"plain.example", "other.example:5000"}})
	for _, tt := range []struct{ ref, want, scheme string }{
		{"alpine", "docker.io/library/alpine:latest", "https"},
		{"docker.io/a/b:1", "docker.io/a/b:1", "https"},
		{"localhost:5000/x", "localhost:5000/x:latest", "http"},
		{"plain.example/x", "plain.example/x:latest", "http"},
		{"plain.example:80/x", "plain.example:80/x:latest", "http"},
		{"other.example:5000/x", "other.example:5000/x:latest", "http"},
		{"other.example/x", "other.example/x:latest", "https"},
	} {
		r, err := c.parseRef(tt.ref)
		if err != nil {
			t.Errorf("%s: %v", tt.ref, err)
			continue
		}
		if got := fullName(r); got != tt.want || r.Context().Scheme() != tt.scheme {
			t.Errorf("%s: got %s over %s, want %s over %s", tt.ref, got, r.Context().Scheme(), tt.want, tt.scheme)
		}
	}
	for _, ref := range []string{"", "UPPER", "a b", "x@sha256:12"} {
		if _, err := c.Get(t.Context(), ref, GetOptions{}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: got %v, want ErrInvalid", ref, err)
		}
	}
	// A host on a private address is not spoken to without TLS.
	if _, err := (&boundedTransport{next: http.DefaultTransport, stall: time.Minute}).RoundTrip(httptest.NewRequest("GET", "http://10.0.0.1/v2/", nil)); !errors.Is(err, ErrInvalid) {
		t.Errorf("got %v, want ErrInvalid", err)
	}
}

// bigImage is an image of one layer that does not pack.
func bigImage(t testing.TB, size int64) v1.Image {
	t.Helper()
	img, err := random.Image(size, 1)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// stallBlobs sends the beginning of each blob, calls back, and says no more
// until the client has gone.
func stallBlobs(sent func()) func(w http.ResponseWriter, r *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		if !strings.Contains(r.URL.Path, "/silent/") {
			w.Header().Set("Content-Length", "1000")
			w.Write([]byte("begin"))
			w.(http.Flusher).Flush()
		}
		sent()
		<-r.Context().Done()
		return true
	}
}
