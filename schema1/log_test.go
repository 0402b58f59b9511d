package schema1_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/byrevm/byre/schema1"
)

func TestLogMasksSecrets(t *testing.T) {
	spec := json.RawMessage(`{"process":{"env":["TOKEN=secret"]}}`)
	config := &schema1.ProcessConfig{
		CommandLine:      "run",
		Environment:      map[string]string{"TOKEN": "secret"},
		OCISpecification: &spec,
	}
	for _, tt := range []struct {
		name string
		v    any
		keep string
	}{
		{"process", config, "TOKEN"},
		{"process without secrets", schema1.ProcessConfig{CommandLine: "run"}, "run"},
		{"container", &schema1.ContainerConfig{Name: "c1", Credentials: "secret"}, "c1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			slog.New(slog.NewJSONHandler(&b, nil)).Info("created", "v", tt.v)
			if got := b.String(); strings.Contains(got, "secret") || !strings.Contains(got, tt.keep) {
				t.Errorf("got %s, want %s and no secret", got, tt.keep)
			}
		})
	}
	if config.Environment["TOKEN"] != "secret" || !strings.Contains(string(spec), "secret") {
		t.Error("logging changed the configuration")
	}
}
