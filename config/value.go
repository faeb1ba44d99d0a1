package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// set parses text and stores it in the row's field of c. On error c is unchanged.
func (s *Setting) set(c *Config, text string) error {
	if s.State == Historical {
		c.inactive[s.Name] = text
		return nil
	}
	v, err := s.parse(text)
	if err != nil {
		return err
	}
	if s.at == nil {
		c.inactive[s.Name] = format(v)
		return nil
	}
	store(s.at(c), v)
	return nil
}

// get is the canonical text of the row's value in c; set accepts it.
func (s *Setting) get(c *Config) string {
	if s.at == nil {
		return c.inactive[s.Name]
	}
	return format(load(s.at(c)))
}

// changed reports whether the value differs from the default.
func (s *Setting) changed(c *Config) bool {
	if s.State == Historical {
		return c.IsSet(s.Name)
	}
	v, err := s.parse(s.Default)
	return err != nil || format(v) != s.get(c)
}

// parse turns text into the Go value of the row's kind.
func (s *Setting) parse(text string) (any, error) {
	switch s.Kind {
	case Text:
		return text, nil
	case Bool:
		return parseBool(text)
	case Uint:
		return parseUint(text, 64)
	case Uint32:
		return parseUint(text, 32)
	case Int:
		return parseInt(text)
	case Duration:
		return parseDuration(text)
	case URLs:
		if text == "" {
			return []url.URL(nil), nil
		}
		return parseURLs(strings.Split(text, ","))
	case Origins:
		return parseOrigins(text)
	case Hosts:
		if text == "" {
			return []string{anyOne}, nil
		}
		return sortedWords(text), nil
	case Outputs:
		return sortedWords(text), nil
	case List:
		return words(text), nil
	case Choice:
		if !slices.Contains(s.Choices, text) {
			return nil, fmt.Errorf("use one of %s", quoted(s.Choices))
		}
		return text, nil
	case Choices:
		return parseChoices(text, s.Choices)
	case GateSet:
		return parseGates(text)
	}
	panic(fmt.Sprintf("BUG: setting %s has unknown kind %d", s.Name, s.Kind))
}

// anyOne allows every origin or host; empty means the same.
const anyOne = "*"

func parseBool(text string) (any, error) {
	v, err := strconv.ParseBool(text)
	if err != nil {
		return nil, errors.New("use true or false")
	}
	return v, nil
}

func parseUint(text string, bits int) (any, error) {
	v, err := strconv.ParseUint(text, 0, bits)
	if err != nil {
		return nil, fmt.Errorf("use an integer from 0 to %d", ^uint64(0)>>(64-bits))
	}
	return v, nil
}

func parseInt(text string) (any, error) {
	v, err := strconv.ParseInt(text, 0, 64)
	if err != nil {
		return nil, errors.New("use an integer of 64 bits")
	}
	return v, nil
}

func parseDuration(text string) (any, error) {
	v, err := time.ParseDuration(text)
	if err != nil {
		return nil, errors.New(`use a number with a unit, such as "500ms", "10s" or "1h30m"`)
	}
	return v, nil
}

func parseChoices(text string, choices []string) (any, error) {
	list := words(text)
	for _, w := range list {
		if !slices.Contains(choices, w) {
			return nil, fmt.Errorf("invalid value %q: use one of %s", w, quoted(choices))
		}
	}
	sort.Strings(list)
	return list, nil
}

func parseOrigins(text string) (any, error) {
	if text == "" || text == anyOne {
		return []string{anyOne}, nil
	}
	urls, err := parseURLs(strings.Split(text, ","))
	if err != nil {
		return nil, err
	}
	return URLStrings(urls), nil
}

// parseURLs checks, sorts and de-duplicates URLs of sockets: http and https with host:port and no path, unix and unixs.
func parseURLs(list []string) ([]url.URL, error) {
	seen := make(map[string]bool, len(list))
	out := make([]url.URL, 0, len(list))
	for _, text := range list {
		u, err := parseURL(strings.TrimSpace(text))
		if err != nil {
			return nil, err
		}
		if s := u.String(); !seen[s] {
			seen[s] = true
			out = append(out, *u)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].String() < out[j].String() })
	return out, nil
}

func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, err
	}
	switch u.Scheme {
	case "http", "https":
		if _, _, err := net.SplitHostPort(u.Host); err != nil {
			return nil, fmt.Errorf(`URL address does not have the form "host:port": %s`, text)
		}
		if u.Path != "" {
			return nil, fmt.Errorf("URL must not contain a path: %s", text)
		}
	case "unix", "unixs":
		if SocketPath(*u) == "" {
			return nil, fmt.Errorf("URL does not name a socket file: %s", text)
		}
	default:
		return nil, fmt.Errorf("URL scheme must be http, https, unix, or unixs: %s", text)
	}
	return u, nil
}

// SocketPath is the file that a unix URL names. Both unix://localhost:123 (host and port make a relative name) and
// unix:///run/q.sock are in use.
func SocketPath(u url.URL) string {
	if u.Opaque != "" {
		return u.Opaque
	}
	return u.Host + u.Path
}

func words(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

func sortedWords(text string) []string {
	list := words(text)
	sort.Strings(list)
	return slices.Compact(list)
}

func quoted(list []string) string {
	out := make([]string, len(list))
	for i, w := range list {
		out[i] = strconv.Quote(w)
	}
	return strings.Join(out, ", ")
}

// store puts a parsed value into a field; load reads it. The field's type follows from the row's kind.
func store(field, v any) {
	switch f := field.(type) {
	case *string:
		*f = v.(string)
	case *bool:
		*f = v.(bool)
	case *uint64:
		*f = v.(uint64)
	case *int64:
		*f = v.(int64)
	case *time.Duration:
		*f = v.(time.Duration)
	case *[]url.URL:
		*f = v.([]url.URL)
	case *[]string:
		*f = v.([]string)
	case *Gates:
		*f = v.(Gates)
	default:
		panic(fmt.Sprintf("BUG: a setting is held in a %T", field))
	}
}

func load(field any) any {
	switch f := field.(type) {
	case *string:
		return *f
	case *bool:
		return *f
	case *uint64:
		return *f
	case *int64:
		return *f
	case *time.Duration:
		return *f
	case *[]url.URL:
		return *f
	case *[]string:
		return *f
	case *Gates:
		return *f
	}
	panic(fmt.Sprintf("BUG: a setting is held in a %T", field))
}

func format(v any) string {
	switch v := v.(type) {
	case []url.URL:
		return joinURLs(v)
	case []string:
		return strings.Join(v, ",")
	}
	return fmt.Sprint(v)
}
