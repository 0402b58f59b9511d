package bridge

import (
	"encoding/json"
	"fmt"
)

// Quoted is JSON that travels inside a JSON string. Empty means absent: the
// member is left out, since an empty string is an error to some peers.
type Quoted []byte

// Quote encodes v.
func Quote(v any) (Quoted, error) { return json.Marshal(v) }

// Decode stores the JSON in v, which it leaves alone if q is empty. Members
// that v lacks are ignored.
func (q Quoted) Decode(v any) error {
	if len(q) == 0 {
		return nil
	}
	if err := json.Unmarshal(q, v); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidJSON, err)
	}
	return nil
}

// MarshalJSON returns the JSON as a string.
func (q Quoted) MarshalJSON() ([]byte, error) { return json.Marshal(string(q)) }

// UnmarshalJSON takes a string of valid JSON; the empty string, "null" and
// null are empty.
func (q *Quoted) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	switch {
	case s == "" || s == "null":
		*q = nil
		return nil
	case !json.Valid([]byte(s)):
		return fmt.Errorf("string does not hold JSON")
	}
	*q = Quoted(s)
	return nil
}
