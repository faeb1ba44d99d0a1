package config

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	nodes "gopkg.in/yaml.v3" // tells lines
	"sigs.k8s.io/yaml"

	"quorate.dev/quorate/limits"
)

// Problem is one thing that is wrong with a config file.
type Problem struct {
	Line    int    `json:"line"`          // from 1; 0 when it is about no line
	Key     string `json:"key,omitempty"` // path of the key, dots between maps; "" when it is about none
	Warning bool   `json:"warning"`       // the server starts all the same
	Text    string `json:"problem"`       // what is wrong, with the value
	Fix     string `json:"fix,omitempty"` // what to do, when it is not obvious from Text
}

// Check reads a config file as the server would, but goes on after an error: it returns all problems, in the order of lines,
// those about no line last. Files that it names, such as certificates, are read too; now says whether they have expired.
func Check(text []byte, readFile func(string) ([]byte, error), now time.Time) []Problem {
	c := &checker{config: New(), lines: linesOf(text), readFile: readFile, now: now}
	doc, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		c.add(Problem{Line: lineIn(err), Text: err.Error(), Fix: "each setting is one line \"key: value\"; indent the settings of a map by two blanks"})
		return c.problems
	}
	c.object("", doc)
	c.rules()
	c.files()
	sort.SliceStable(c.problems, func(i, j int) bool {
		a, b := c.problems[i].Line, c.problems[j].Line
		return a != b && a != 0 && (b == 0 || a < b)
	})
	return c.problems
}

type checker struct {
	config   *Config
	lines    map[string]int // of keys, by their paths
	problems []Problem
	readFile func(string) ([]byte, error)
	now      time.Time
}

func (c *checker) add(p Problem) {
	if p.Line == 0 {
		p.Line = c.lines[p.Key]
	}
	c.problems = append(c.problems, p)
}

// lineIn finds the line that a YAML error names.
func lineIn(err error) int {
	m := regexp.MustCompile(`line (\d+)`).FindStringSubmatch(err.Error())
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1]) // digits
	return n
}

// linesOf finds the lines of all keys. It finds none in a text that is no YAML.
func linesOf(text []byte) map[string]int {
	lines := map[string]int{}
	var root nodes.Node
	if nodes.Unmarshal(text, &root) != nil {
		return lines
	}
	var walk func(prefix string, n *nodes.Node)
	walk = func(prefix string, n *nodes.Node) {
		switch n.Kind {
		case nodes.DocumentNode:
			for _, child := range n.Content {
				walk(prefix, child)
			}
		case nodes.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				path := prefix + n.Content[i].Value
				lines[path] = n.Content[i].Line
				walk(path+".", n.Content[i+1])
			}
		}
	}
	walk("", &root)
	return lines
}

// object is Config.readObject that does not stop.
func (c *checker) object(prefix string, doc []byte) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(doc, &object); err != nil {
		c.add(Problem{Key: strings.TrimSuffix(prefix, "."), Text: "this must be a map of settings, one \"key: value\" a line"})
		return
	}
	for key, raw := range object {
		path := prefix + key
		switch s, group := fileKey(path); {
		case string(raw) == "null":
		case s != nil:
			if err := c.config.readValue(s, path, raw); err != nil {
				c.add(Problem{Key: path, Text: err.Error()})
				continue
			}
			c.state(s, path)
		case group:
			c.object(path+".", raw)
		default:
			c.unknown(path)
		}
	}
}

// state warns of a setting that does nothing.
func (c *checker) state(s *Setting, path string) {
	if (s.State == Later || s.State == NoEffect || s.State == Historical) && s.changed(c.config) {
		c.add(Problem{Key: path, Warning: true, Text: fmt.Sprintf("%s: %s", s.State, s.Why)})
	}
}

// unknown reports a key that there is not, with one that may be meant.
func (c *checker) unknown(path string) {
	p := Problem{Key: path, Text: fmt.Sprintf("unknown key %s: it is ignored", path)}
	last := path[strings.LastIndexByte(path, '.')+1:]
	if s := lookup(last); s != nil && s.Key() != "" {
		p.Fix = "write " + s.Key()
	} else if s != nil {
		p.Fix = "--" + s.Name + " can only be given as a flag or variable"
	} else if near := Nearest(path); near != "" {
		p.Fix = "did you mean " + near + "?"
	}
	p.Warning = p.Fix == "" // a key of an older etcd: the server ignores it, and so may who wrote it
	c.add(p)
}

// Nearest is the key of the config file that is spelled most like a word, "" when none is.
func Nearest(word string) string {
	best, least := "", 1+len(word)/3
	for i := range table {
		key := table[i].Key()
		if key == "" || table[i].State == Historical {
			continue
		}
		for _, candidate := range []string{key, key[strings.LastIndexByte(key, '.')+1:]} {
			if d := distance(strings.ToLower(word), candidate); d < least {
				best, least = key, d
			}
		}
	}
	return best
}

// distance is the least number of letters to insert, remove or change to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}

// rules checks what settings say of each other.
func (c *checker) rules() {
	l := &loader{config: c.config}
	for _, check := range append([]func() error{l.derive}, c.config.checks()...) {
		if err := check(); err != nil {
			c.add(c.about(err))
		}
	}
	if c.config.IsSet("initial-cluster") && c.config.Cluster.State == StateNew {
		if err := c.config.CheckFounding(); err != nil {
			c.add(c.about(err))
		}
	}
	for _, n := range c.config.tlsNotes() {
		text := n.Message
		for _, f := range n.Fields {
			text += " (" + f[0] + " " + f[1] + ")"
		}
		c.add(Problem{Warning: true, Text: text})
	}
}

// about finds the setting in the file that an error is about: the first that it names.
func (c *checker) about(err error) Problem {
	p := Problem{Text: err.Error()}
	for _, m := range regexp.MustCompile(`(?:--)?([a-z0-9]+(?:-[a-z0-9]+)*)`).FindAllStringSubmatch(p.Text, -1) {
		if s := lookup(m[1]); s != nil && c.lines[s.Key()] > 0 {
			p.Key = s.Key()
			break
		}
	}
	return p
}

// files looks at the files that settings name.
func (c *checker) files() {
	for _, side := range []struct {
		s   *Security
		key string
	}{{&c.config.TLS.Client, "client-transport-security."}, {&c.config.TLS.Peer, "peer-transport-security."}} {
		c.pair(side.key+"cert-file", side.s.Cert, side.key+"key-file", side.s.Key)
		c.pair(side.key+"client-cert-file", side.s.OwnCert, side.key+"client-key-file", side.s.OwnKey)
		if text := c.file(side.key+"trusted-ca-file", side.s.CA); text != nil {
			c.certificates(side.key+"trusted-ca-file", side.s.CA, text)
		}
	}
}

// file reads a file, nil when there is none or it cannot be read.
func (c *checker) file(key, path string) []byte {
	if path == "" {
		return nil
	}
	text, err := c.readFile(path)
	if err != nil {
		c.add(Problem{Key: key, Text: err.Error(), Fix: "make the file readable for the user of the server, or correct the path"})
		return nil
	}
	return text
}

// pair checks a certificate and its key.
func (c *checker) pair(certKey, certPath, keyKey, keyPath string) {
	cert, key := c.file(certKey, certPath), c.file(keyKey, keyPath)
	if cert == nil || !c.certificates(certKey, certPath, cert) || key == nil {
		return
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		c.add(Problem{Key: keyKey, Text: fmt.Sprintf("%s: %v", keyPath, err), Fix: "give the key of the certificate in " + certPath})
	}
}

// certificates checks the certificates of a file, and reports whether there are any.
func (c *checker) certificates(key, path string, text []byte) bool {
	found := false
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			c.add(Problem{Key: key, Text: fmt.Sprintf("%s: %v", path, err)})
			return false
		}
		found = true
		name := cert.Subject.String()
		switch {
		case c.now.After(cert.NotAfter):
			c.add(Problem{Key: key, Text: fmt.Sprintf("%s: the certificate of %q has expired at %s", path, name, cert.NotAfter.UTC().Format(time.RFC3339)), Fix: "renew it"})
		case c.now.Before(cert.NotBefore):
			c.add(Problem{Key: key, Text: fmt.Sprintf("%s: the certificate of %q is not valid before %s", path, name, cert.NotBefore.UTC().Format(time.RFC3339)), Fix: "check the clock, or wait"})
		case cert.NotAfter.Sub(c.now) < min(limits.CertWarning, cert.NotAfter.Sub(cert.NotBefore)/3):
			c.add(Problem{Key: key, Warning: true, Text: fmt.Sprintf("%s: the certificate of %q expires at %s", path, name, cert.NotAfter.UTC().Format(time.RFC3339)), Fix: "renew it; no restart is needed"})
		}
	}
	if !found {
		c.add(Problem{Key: key, Text: path + ": there is no certificate in it", Fix: "the file must be in PEM form, with lines -----BEGIN CERTIFICATE-----"})
	}
	return found
}

// HasErrors reports whether a server would not start, or not as it should.
func HasErrors(problems []Problem) bool {
	return slices.ContainsFunc(problems, func(p Problem) bool { return !p.Warning })
}
