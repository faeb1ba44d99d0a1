package config

import (
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"
)

const secretMask = "***"

// Value is one setting with its value, for logs and dumps.
type Value struct {
	Name   string
	Text   string // as a flag would be written; secrets are masked
	Origin string // "default", "flag", "env", "file" or "program"
}

// Values lists every setting except the historical ones, in the order of the table.
func (c *Config) Values() []Value {
	var out []Value
	for i := range table {
		s := &table[i]
		if s.State == Historical {
			continue
		}
		v := Value{Name: s.Name, Text: s.get(c), Origin: "default"}
		if o, ok := c.origin[s.Name]; ok {
			v.Origin = o
		}
		if s.Secret && v.Text != "" {
			v.Text = secretMask
		}
		out = append(out, v)
	}
	return out
}

// MaskArgs is a command line without the values of secret settings, for whoever may see how the program was started.
func MaskArgs(args []string) []string {
	out := slices.Clone(args)
	for i, arg := range args {
		name, _, given := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		s := lookup(name)
		switch {
		case s == nil || !s.Secret || !strings.HasPrefix(arg, "-"):
		case given:
			out[i] = arg[:strings.IndexByte(arg, '=')+1] + secretMask
		case i+1 < len(args):
			out[i+1] = secretMask
		}
	}
	return out
}

// Dump writes the configuration as a config file: every setting that a file can hold and that differs from its default,
// or all of them. Reading it gives the same configuration, except for secrets, which are left out.
func (c *Config) Dump(all bool) string {
	root := map[string]any{}
	for i := range table {
		s := &table[i]
		key := s.Key()
		if key == "" || s.Secret || !(all || s.changed(c)) {
			continue
		}
		node := root
		path := strings.Split(key, ".")
		for _, group := range path[:len(path)-1] {
			next, ok := node[group].(map[string]any)
			if !ok {
				next = map[string]any{}
				node[group] = next
			}
			node = next
		}
		node[path[len(path)-1]] = s.fileValue(c)
	}
	var b strings.Builder
	writeYAML(&b, root, "")
	return b.String()
}

// fileValue is the value as the config file spells it: JSON text, which is YAML too.
func (s *Setting) fileValue(c *Config) string {
	text := s.get(c)
	switch s.Kind {
	case Bool, Uint, Uint32, Int:
		return text
	case Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			panic(fmt.Sprintf("BUG: stored value of %s: %v", s.Name, err))
		}
		return fmt.Sprint(d.Nanoseconds())
	case List, Outputs:
		return quoteJSON(append([]string{}, words(text)...))
	}
	return quoteJSON(text)
}

func quoteJSON(v any) string {
	out, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("BUG: texts always marshal: %v", err))
	}
	return string(out)
}

func writeYAML(b *strings.Builder, node map[string]any, indent string) {
	keys := make([]string, 0, len(node))
	for key := range node {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	for _, key := range keys {
		switch v := node[key].(type) {
		case map[string]any:
			fmt.Fprintf(b, "%s%s:\n", indent, key)
			writeYAML(b, v, indent+"  ")
		case string:
			fmt.Fprintf(b, "%s%s: %s\n", indent, key, v)
		}
	}
}
