package hcsschema_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/byrevm/byre/hcsschema"
)

func TestLogMasksSecrets(t *testing.T) {
	params := hcsschema.ProcessParameters{CommandLine: "run", Environment: map[string]string{"TOKEN": "secret"}}
	for _, tt := range []struct {
		name string
		v    any
		keep string
	}{
		{"parameters", params, "TOKEN"},
		{"pointer to parameters", &params, "run"},
		{"no environment", hcsschema.ProcessParameters{CommandLine: "run"}, "run"},
		{"credentials", &hcsschema.ContainerCredentialGuardState{Cookie: "secret", CredentialSpec: "secret", Transport: "LRPC"}, "LRPC"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			slog.New(slog.NewJSONHandler(&b, nil)).Info("process started", "v", tt.v)
			if got := b.String(); strings.Contains(got, "secret") || !strings.Contains(got, tt.keep) {
				t.Errorf("got %s, want %s and no secret", got, tt.keep)
			}
		})
	}
	if got := params.Environment["TOKEN"]; got != "secret" {
		t.Errorf("logging changed the environment: got %q", got)
	}
}
