package kube

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"sigs.k8s.io/yaml"
)

// The beginnings of values.
var (
	magic     = []byte("k8s\x00")
	encrypted = []byte("k8s:enc:")
)

// depthMax bounds how deep messages may lie in each other.
const depthMax = 100

// Decode is a value that Kubernetes wrote as YAML. ok is false for a value that Kubernetes did not write; with ok and an error it
// did, and the error says why it cannot be shown: encrypted, of an unknown type, or damaged.
func Decode(value []byte) (text string, ok bool, err error) {
	switch {
	case bytes.HasPrefix(value, magic):
		object, err := envelope(value[len(magic):])
		if err != nil {
			return "", true, err
		}
		text, err := yaml.Marshal(object)
		return string(text), true, err
	case bytes.HasPrefix(value, encrypted):
		provider, _, _ := strings.Cut(string(value[len(encrypted):min(len(value), 100)]), ":")
		return "", true, fmt.Errorf("encrypted by the API server (provider %q): only it can show the object, by kubectl get", provider)
	case len(value) > 0 && value[0] == '{':
		var head struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
		}
		if json.Unmarshal(value, &head) != nil || head.APIVersion == "" || head.Kind == "" {
			return "", false, nil
		}
		text, err := yaml.JSONToYAML(value)
		return string(text), true, err
	}
	return "", false, nil
}

// Kind is the apiVersion and kind of a value that Kubernetes wrote; ok is false when it did not, or does not say.
func Kind(value []byte) (apiVersion, kind string, ok bool) {
	if bytes.HasPrefix(value, magic) {
		e, err := open(value[len(magic):])
		return e.version, e.kind, err == nil
	}
	var head struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
	}
	if len(value) == 0 || value[0] != '{' || json.Unmarshal(value, &head) != nil {
		return "", "", false
	}
	return head.APIVersion, head.Kind, head.APIVersion != "" && head.Kind != ""
}

// opened is the envelope of an object, runtime.Unknown.
type opened struct {
	version, kind string
	raw           []byte
	encoding      string
}

func open(b []byte) (e opened, err error) {
	top, err := split(b)
	if err != nil {
		return e, err
	}
	head, err := split(top.bytes(1))
	if err != nil {
		return e, err
	}
	return opened{string(head.bytes(1)), string(head.bytes(2)), top.bytes(2), string(top.bytes(3))}, nil
}

func envelope(b []byte) (map[string]any, error) {
	e, err := open(b)
	if err != nil {
		return nil, err
	}
	if e.encoding != "" {
		return nil, fmt.Errorf("%s %s in the encoding %q, which is not known", e.version, e.kind, e.encoding)
	}
	s, err := load()
	if err != nil {
		return nil, err
	}
	t := s.kinds[e.version+" "+e.kind]
	if t == nil {
		return nil, fmt.Errorf("a %s of %s, which is none of the %d built-in types that are known", e.kind, e.version, len(s.kinds))
	}
	object := map[string]any{"apiVersion": e.version, "kind": e.kind}
	if err := t.decode(e.raw, object, 0); err != nil {
		return nil, fmt.Errorf("%s %s: %w", e.version, e.kind, err)
	}
	return object, nil
}

// wireField is one occurrence of a field.
type wireField struct {
	typ    protowire.Type
	number uint64 // of varints and fixed numbers
	bytes  []byte
}

// wireFields are the fields of a message.
type wireFields map[protowire.Number][]wireField

// split reads a message.
func split(b []byte) (wireFields, error) {
	fields := wireFields{}
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		b = b[n:]
		f := wireField{typ: typ}
		switch typ {
		case protowire.VarintType:
			f.number, n = protowire.ConsumeVarint(b)
		case protowire.Fixed64Type:
			f.number, n = protowire.ConsumeFixed64(b)
		case protowire.Fixed32Type:
			var v uint32
			v, n = protowire.ConsumeFixed32(b)
			f.number = uint64(v)
		case protowire.BytesType:
			f.bytes, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		fields[num] = append(fields[num], f)
		b = b[n:]
	}
	return fields, nil
}

// bytes is a field that is there once; parts of a message are put together.
func (w wireFields) bytes(n protowire.Number) []byte {
	all := w[n]
	if len(all) <= 1 {
		if len(all) == 0 {
			return nil
		}
		return all[0].bytes
	}
	var out []byte
	for _, f := range all {
		out = append(out, f.bytes...)
	}
	return out
}

func (w wireFields) last(n protowire.Number) wireField {
	if all := w[n]; len(all) > 0 {
		return all[len(all)-1]
	}
	return wireField{}
}

var errDeep = errors.New("messages lie too deep in each other")

// decode adds the fields of an encoded message to object, as JSON has them.
func (m *message) decode(b []byte, object map[string]any, depth int) error {
	if depth > depthMax {
		return errDeep
	}
	wire, err := split(b)
	if err != nil {
		return err
	}
	for i := range m.fields {
		if err := m.fields[i].decode(wire, object, depth); err != nil {
			return fmt.Errorf("%s: %w", m.fields[i].name, err)
		}
	}
	return nil
}

func (f *field) decode(wire wireFields, object map[string]any, depth int) (err error) {
	there := wire[f.number]
	var value any
	empty := false
	switch {
	case f.isMap:
		value, err = f.decodeMap(there, depth)
		empty = len(there) == 0
	case f.repeated:
		value, err = f.decodeList(there, depth)
		empty = len(there) == 0
	case f.pointer && len(there) == 0:
		empty = true
	case f.inline && f.kind == 'm':
		return f.elem.decode(wire.bytes(f.number), object, depth+1)
	default:
		one := wire.last(f.number)
		if f.kind == 'm' {
			one.bytes = wire.bytes(f.number)
		}
		value, empty, err = f.decodeOne(one, len(there) > 0, depth)
		empty = empty && !f.pointer
	}
	if err != nil || empty && f.omitEmpty || f.omitZero && len(wire.bytes(f.number)) == 0 {
		return err
	}
	object[f.name] = value
	return nil
}

func (f *field) decodeMap(there []wireField, depth int) (any, error) {
	if len(there) == 0 {
		return nil, nil
	}
	out := map[string]any{}
	for _, entry := range there {
		pair, err := split(entry.bytes)
		if err != nil {
			return nil, err
		}
		value, _, err := f.decodeOne(pair.last(2), len(pair[2]) > 0, depth)
		if err != nil {
			return nil, err
		}
		if f.kind == 'y' && value == nil {
			value = "" // the value of a map's entry is never absent
		}
		out[string(pair.bytes(1))] = value
	}
	return out, nil
}

func (f *field) decodeList(there []wireField, depth int) (any, error) {
	if len(there) == 0 {
		return nil, nil
	}
	out := make([]any, 0, len(there))
	for _, one := range there {
		if packed := one.typ == protowire.BytesType && (f.kind == 'i' || f.kind == 'u' || f.kind == 'b'); packed {
			for b := one.bytes; len(b) > 0; {
				v, n := protowire.ConsumeVarint(b)
				if n < 0 {
					return nil, protowire.ParseError(n)
				}
				b = b[n:]
				value, _, err := f.decodeOne(wireField{number: v}, true, depth)
				if err != nil {
					return nil, err
				}
				out = append(out, value)
			}
			continue
		}
		value, _, err := f.decodeOne(one, true, depth)
		if err != nil {
			return nil, err
		}
		out = append(out, value)
	}
	return out, nil
}

// decodeOne is one value, and whether it is what omitempty leaves out.
func (f *field) decodeOne(w wireField, there bool, depth int) (value any, empty bool, err error) {
	switch f.kind {
	case 's':
		return text(w.bytes), len(w.bytes) == 0, nil
	case 'b':
		return w.number != 0, w.number == 0, nil
	case 'i':
		return int64(w.number), w.number == 0, nil
	case 'u':
		return w.number, w.number == 0, nil
	case 'd':
		return math.Float64frombits(w.number), w.number == 0, nil
	case 'y':
		if !there {
			return nil, true, nil
		}
		return append([]byte{}, w.bytes...), len(w.bytes) == 0, nil
	case 'm':
		object := map[string]any{}
		return object, false, f.elem.decode(w.bytes, object, depth+1)
	}
	value, err = f.decodeSpecial(w.bytes, there)
	return value, value == nil && f.kind == 'W', err
}

// text is a string of an object; YAML has no bytes that are not UTF-8, so those are replaced, as encoding/json does.
func text(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	return strings.ToValidUTF8(string(b), "\ufffd")
}

// decodeSpecial is a value of a type whose JSON is not that of its fields.
func (f *field) decodeSpecial(b []byte, there bool) (any, error) {
	w, err := split(b)
	if err != nil {
		return nil, err
	}
	switch f.kind {
	case 'T', 'U':
		return instant(b, w, f.kind == 'U'), nil
	case 'D':
		return time.Duration(w.last(1).number).String(), nil
	case 'Q':
		if q := string(w.bytes(1)); q != "" {
			return q, nil
		}
		return "0", nil
	case 'I':
		if w.last(1).number == 0 {
			return int32(w.last(2).number), nil
		}
		return text(w.bytes(3)), nil
	case 'R', 'F':
		raw := w.bytes(1)
		switch {
		case len(raw) == 0:
			return nil, nil
		case json.Valid(raw):
			return json.RawMessage(raw), nil
		}
		return append([]byte{}, raw...), nil // not JSON: shown in base64
	case 'W':
		if !there {
			return nil, nil
		}
		list := []any{}
		for _, item := range w[1] {
			list = append(list, text(item.bytes))
		}
		return list, nil
	}
	return nil, fmt.Errorf("the schema has a type %q that is not known", f.kind)
}

// instant is a moment as Kubernetes writes it: without one null, and of fractions of a second only micro has any.
func instant(b []byte, w wireFields, micro bool) any {
	if len(b) == 0 {
		return nil
	}
	seconds, nanos := int64(w.last(1).number), int64(0)
	layout := time.RFC3339
	if micro {
		nanos = time.Duration(int32(w.last(2).number)).Truncate(time.Microsecond).Nanoseconds()
		layout = "2006-01-02T15:04:05.000000Z07:00"
	}
	t := time.Unix(seconds, nanos).UTC()
	if t.IsZero() {
		return nil
	}
	return t.Format(layout)
}
