package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

// loadFile takes all settings from the file; what flags said before is forgotten.
func (l *loader) loadFile(path string) error {
	text, err := l.src.ReadFile(path)
	if err != nil {
		return fmt.Errorf("cannot read the config file: %w", err)
	}
	l.config = New()
	unknown, err := l.config.readFile(text)
	if err != nil {
		return fmt.Errorf("config file %s: %w", path, err)
	}
	if len(unknown) > 0 {
		l.note(true, "unknown keys in the config file are ignored", [2]string{"path", path}, [2]string{"keys", strings.Join(unknown, ",")})
	}
	l.note(false, "loaded server configuration, other configuration command line flags and environment variables will be ignored if provided",
		[2]string{"path", path})
	return nil
}

// readFile takes the settings of a YAML or JSON text and returns the paths of keys it does not know, sorted.
func (c *Config) readFile(text []byte) (unknown []string, err error) {
	doc, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return nil, err
	}
	unknown, err = c.readObject("", doc)
	sort.Strings(unknown)
	return unknown, err
}

// readObject walks one map of the file. Keys are visited in order, so that the first error is always the same one.
func (c *Config) readObject(prefix string, doc []byte) (unknown []string, err error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(doc, &object); err != nil {
		if prefix == "" {
			return nil, errors.New("the file must hold a map of settings, one \"key: value\" a line")
		}
		return nil, fmt.Errorf("invalid %s: it must be a map of settings", strings.TrimSuffix(prefix, "."))
	}
	keys := make([]string, 0, len(object))
	for key := range object {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	for _, key := range keys {
		path, raw := prefix+key, object[key]
		switch s, group := fileKey(path); {
		case string(raw) == "null":
		case s != nil:
			if err := c.readValue(s, path, raw); err != nil {
				return nil, err
			}
		case group:
			more, err := c.readObject(path+".", raw)
			if err != nil {
				return nil, err
			}
			unknown = append(unknown, more...)
		default:
			unknown = append(unknown, path)
		}
	}
	return unknown, nil
}

// fileKey finds the row with this path, or says that rows lie below it. Letter case does not matter, as in etcd.
func fileKey(path string) (s *Setting, group bool) {
	for i := range table {
		key := table[i].Key()
		if key == "" {
			continue
		}
		if strings.EqualFold(key, path) {
			return &table[i], false
		}
		if len(key) > len(path) && key[len(path)] == '.' && strings.EqualFold(key[:len(path)], path) {
			group = true
		}
	}
	return nil, group
}

func (c *Config) readValue(s *Setting, path string, raw json.RawMessage) error {
	text, err := s.fileText(raw)
	if err == nil && text == "" && s.keepsDefault() {
		return nil
	}
	if err == nil {
		err = s.set(c, text)
	}
	if err != nil {
		shown := string(raw)
		if s.Secret {
			shown = secretMask
		}
		return fmt.Errorf("invalid value %s for key %s: %w", shown, path, err)
	}
	c.origin[s.Name] = "file"
	return nil
}

// keepsDefault: an empty text in the file leaves these as they are.
func (s *Setting) keepsDefault() bool {
	return slices.Contains([]Kind{URLs, Origins, Hosts, Choice, Choices}, s.Kind)
}

// fileText turns a JSON value into the text that a flag would have.
func (s *Setting) fileText(raw json.RawMessage) (string, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var v any
	if err := decoder.Decode(&v); err != nil {
		return "", err
	}
	switch s.Kind {
	case Bool:
		if b, ok := v.(bool); ok {
			return strconv.FormatBool(b), nil
		}
		return "", errors.New("use true or false, without quotes")
	case Uint, Uint32, Int:
		if n, ok := v.(json.Number); ok {
			return n.String(), nil
		}
		return "", errors.New("use an integer, without quotes")
	case Duration:
		return fileDuration(v)
	case URLs, Origins, Hosts, List, Outputs, Choices:
		if list, ok := v.([]any); ok {
			return joinWords(list)
		}
	}
	return scalarText(v)
}

// fileDuration: durations in the file are integer nanoseconds.
func fileDuration(v any) (string, error) {
	if n, ok := v.(json.Number); ok {
		if i, err := n.Int64(); err == nil {
			return time.Duration(i).String(), nil
		}
	}
	if text, ok := v.(string); ok {
		if d, err := time.ParseDuration(text); err == nil {
			return "", fmt.Errorf("durations in the config file are integer nanoseconds: write %d for %s", d.Nanoseconds(), text)
		}
	}
	return "", errors.New("durations in the config file are integer nanoseconds, such as 600000000000 for 10m")
}

func joinWords(list []any) (string, error) {
	out := make([]string, len(list))
	for i, v := range list {
		text, err := scalarText(v)
		if err != nil {
			return "", err
		}
		if strings.Contains(text, ",") {
			return "", fmt.Errorf("%q: an element of a list must not contain a comma", text)
		}
		out[i] = text
	}
	return strings.Join(out, ","), nil
}

// scalarText accepts numbers and booleans where a text is wanted: YAML writes name: 7 without quotes.
func scalarText(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case json.Number:
		return v.String(), nil
	case bool:
		return strconv.FormatBool(v), nil
	}
	return "", errors.New("use a text")
}
