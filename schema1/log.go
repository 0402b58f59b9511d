package schema1

import (
	"encoding/json"
	"log/slog"
)

// masked stands in logs for what must not be there.
const masked = "***"

// LogValue masks the values of the environment, whose names stay, and the OCI
// specification, which has an environment too.
func (p ProcessConfig) LogValue() slog.Value {
	type plain ProcessConfig // without this method
	if p.Environment != nil {
		env := make(map[string]string, len(p.Environment))
		for k := range p.Environment {
			env[k] = masked
		}
		p.Environment = env
	}
	if p.OCISpecification != nil {
		spec := json.RawMessage(`"` + masked + `"`)
		p.OCISpecification = &spec
	}
	return slog.AnyValue(plain(p))
}

// LogValue masks the credentials.
func (c ContainerConfig) LogValue() slog.Value {
	type plain ContainerConfig // without this method
	if c.Credentials != "" {
		c.Credentials = masked
	}
	return slog.AnyValue(plain(c))
}
