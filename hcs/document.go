package hcs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/byrevm/byre/hcsschema"
)

// A Document is a compute system as JSON: an [hcsschema.ComputeSystem] with
// whatever was merged into it, so that a member unknown to this module still
// reaches an engine that knows it.
type Document json.RawMessage

// NewDocument encodes cs and merges the JSON object extra into it; "" adds
// nothing. Objects are merged member by member and extra wins; a null in
// extra keeps an object and replaces anything else; an array is replaced
// whole.
func NewDocument(cs *hcsschema.ComputeSystem, extra string) (Document, error) {
	b, err := json.Marshal(cs)
	if err != nil || extra == "" {
		return b, err
	}
	var base, add map[string]any
	if err := json.Unmarshal(b, &base); err != nil {
		return nil, err
	}
	if err := json.Unmarshal([]byte(extra), &add); err != nil {
		return nil, err
	}
	b, err = json.Marshal(merge(base, add))
	return b, err
}

func merge(base, add map[string]any) map[string]any {
	for k, v := range add {
		old, ok := base[k].(map[string]any)
		if ok && v == nil {
			continue
		}
		if m, isObject := v.(map[string]any); ok && isObject {
			base[k] = merge(old, m)
			continue
		}
		base[k] = v
	}
	return base
}

// Decode stores the document in cs. A member that cs lacks is
// [ErrNotSupported], with its name.
func (d Document) Decode(cs *hcsschema.ComputeSystem) error { return decodeStrict(d, cs) }

// MarshalJSON returns the document itself.
func (d Document) MarshalJSON() ([]byte, error) { return json.RawMessage(d).MarshalJSON() }

// Decode stores settings, a value of any type or JSON text, in v. A member
// that v lacks is [ErrNotSupported], with its name, so that no engine drops
// one silently.
func Decode(settings, v any) error {
	b, err := json.Marshal(settings)
	if err != nil {
		return err
	}
	return decodeStrict(b, v)
}

func decodeStrict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
			return fmt.Errorf("%w: member %s", ErrNotSupported, name)
		}
		return fmt.Errorf("decoding %T: %w", v, err)
	}
	return nil
}

// Members returns the path of every member of v that is set, such as
// "VirtualMachine.Devices.Plan9", sorted. Elements of maps and lists are
// counted under the name of their collection with "[]". Engines hold it
// against the list of members that they honour.
func Members(v any) []string {
	var names []string
	walk(reflect.ValueOf(v), "", &names)
	slices.Sort(names)
	return slices.Compact(names)
}

func walk(v reflect.Value, at string, names *[]string) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			walk(v.Elem(), at, names)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "" {
				name = f.Name
			}
			if !f.IsExported() || name == "-" || v.Field(i).IsZero() {
				continue
			}
			p := strings.TrimPrefix(at+"."+name, ".")
			*names = append(*names, p)
			walk(v.Field(i), p, names)
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			walk(it.Value(), at+"[]", names)
		}
	case reflect.Slice:
		for i := range v.Len() {
			walk(v.Index(i), at+"[]", names)
		}
	}
}
