package hcsschema

import "log/slog"

// masked stands in logs for what must not be there.
const masked = "***"

// LogValue masks the values of the environment; their names stay.
func (p ProcessParameters) LogValue() slog.Value {
	type plain ProcessParameters // without this method
	p.Environment = maskValues(p.Environment)
	return slog.AnyValue(plain(p))
}

// LogValue masks the cookie and the credential specification.
func (s ContainerCredentialGuardState) LogValue() slog.Value {
	type plain ContainerCredentialGuardState // without this method
	s.Cookie = mask(s.Cookie)
	s.CredentialSpec = mask(s.CredentialSpec)
	return slog.AnyValue(plain(s))
}

func mask(s string) string {
	if s == "" {
		return ""
	}
	return masked
}

// maskValues returns m with each value masked; m is not changed.
func maskValues(m map[string]string) map[string]string {
	if m == nil {
		return nil
	}
	c := make(map[string]string, len(m))
	for k := range m {
		c[k] = masked
	}
	return c
}
