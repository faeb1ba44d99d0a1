package kube

import (
	"bytes"
	"compress/gzip"
	_ "embed" // the schema
	"fmt"
	"io"
	"strings"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
)

//go:embed schema.gz
var packed []byte

// schema is what is known of the built-in types.
type schema struct {
	kinds map[string]*message // by apiVersion and kind, with a space between
	types []message
}

// message is one type.
type message struct {
	name   string
	fields []field
}

// field is one field of a type.
type field struct {
	number protowire.Number
	kind   byte // see gen
	name   string
	elem   *message

	repeated, isMap, pointer, inline bool
	omitEmpty, omitZero              bool
}

// load unpacks the schema, once.
var load = sync.OnceValues(func() (*schema, error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(z)
	if err != nil {
		return nil, err
	}
	return parse(strings.Split(strings.TrimSuffix(string(text), "\n"), "\n"))
})

// parse reads the lines of a schema: "! apiVersion kind type", "= type" and "number kind -flags name type".
func parse(lines []string) (*schema, error) {
	s := &schema{kinds: map[string]*message{}}
	for _, line := range lines {
		if strings.HasPrefix(line, "= ") {
			s.types = append(s.types, message{name: line[2:]})
		}
	}
	at := -1
	for _, line := range lines {
		switch {
		case strings.HasPrefix(line, "! "):
			var version, kind string
			var n int
			if _, err := fmt.Sscanf(line, "! %s %s %d", &version, &kind, &n); err != nil || n >= len(s.types) {
				return nil, fmt.Errorf("line %q of the schema", line)
			}
			s.kinds[version+" "+kind] = &s.types[n]
		case strings.HasPrefix(line, "= "):
			at++
		default:
			f, err := s.field(line)
			if err != nil || at < 0 {
				return nil, fmt.Errorf("line %q of the schema: %v", line, err)
			}
			s.types[at].fields = append(s.types[at].fields, f)
		}
	}
	return s, nil
}

func (s *schema) field(line string) (f field, err error) {
	var kind, flags string
	var elem int
	if _, err := fmt.Sscanf(line, "%d %s %s %s %d", &f.number, &kind, &flags, &f.name, &elem); err != nil {
		return f, err
	}
	f.kind = kind[0]
	if f.kind == 'm' && elem < len(s.types) {
		f.elem = &s.types[elem]
	}
	has := func(flag string) bool { return strings.Contains(flags, flag) }
	f.repeated, f.isMap, f.pointer, f.inline, f.omitEmpty, f.omitZero = has("r"), has("p"), has("*"), has("n"), has("o"), has("z")
	return f, nil
}
