package layers

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
)

// askToken makes r want a bearer token, which its own address gives to me/pw,
// and to nobody else. It counts the tokens that were given.
func (r *testRegistry) askToken(given *atomic.Int64) {
	r.set(func(w http.ResponseWriter, req *http.Request) bool {
		if req.URL.Path == "/token" {
			u, p, _ := req.BasicAuth()
			if u != "me" || p != "pw" || req.URL.Query().Get("scope") != "repository:team/secret:pull" {
				w.WriteHeader(http.StatusUnauthorized)
				return true
			}
			given.Add(1)
			json.NewEncoder(w).Encode(map[string]string{"token": "the-token"})
			return true
		}
		if req.Header.Get("Authorization") == "Bearer the-token" {
			return false
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="test"`, r.host))
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
}

// dockerLogin writes what docker login leaves, and has it be used.
func dockerLogin(t *testing.T, host, user, password string) {
	t.Helper()
	dir := t.TempDir()
	conf := mustJSON(t, map[string]any{"auths": map[string]any{
		host: map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte(user + ":" + password))},
	}})
	if err := os.WriteFile(filepath.Join(dir, "config.json"), conf, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_CONFIG", dir)
}

func TestToken(t *testing.T) {
	r := newRegistry(t)
	ref := r.push(t, "team/secret:1", randomImage(t, runtime.GOARCH, 2))
	var given atomic.Int64
	r.askToken(&given)
	dockerLogin(t, r.host, "me", "pw")
	img := mustGet(t, openCache(t, Config{}), ref, GetOptions{})
	if len(img.Layers) != 2 || given.Load() == 0 {
		t.Errorf("got %d layers with %d tokens", len(img.Layers), given.Load())
	}
	dockerLogin(t, r.host, "me", "wrong")
	c := openCache(t, Config{})
	_, err := c.Get(t.Context(), ref, GetOptions{})
	if err == nil || !strings.Contains(err.Error(), "docker login "+r.host) {
		t.Errorf("with a wrong password: got %v, want what to do", err)
	}
	noLeftovers(t, c)
}

// A download that never comes to its end is tried again, and then given up.
func TestBreaksOff(t *testing.T) {
	r := newRegistry(t)
	ref := r.push(t, "img:1", randomImage(t, runtime.GOARCH, 1))
	layers := map[string]int{}
	r.set(func(w http.ResponseWriter, req *http.Request) bool {
		if !strings.Contains(req.URL.Path, "/blobs/") {
			return false
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if layers[req.URL.Path]++; len(layers) == 1 { // the configuration is asked for first
			return false
		}
		w.Header().Set("Content-Length", "100000")
		fmt.Fprint(w, "begin")
		return true
	})
	c := openCache(t, Config{})
	_, err := c.Get(t.Context(), ref, GetOptions{})
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want io.ErrUnexpectedEOF", err)
	}
	tries := 0
	for _, n := range layers {
		tries = max(tries, n)
	}
	if tries != maxTries {
		t.Errorf("got %d tries, want %d", tries, maxTries)
	}
	noLeftovers(t, c)
}
