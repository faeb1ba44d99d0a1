// Package script reads scenario files and runs them against a server.
//
// A scenario is a list of statements, one a line, under a "case <name>" heading; the same scenario is run against two
// servers and what they answered is compared by the caller. Requests are written in protobuf text format under the name
// of their RPC, so every field of every request can be said, and nothing but the RPC's own schema has to be learned:
//
//	case put/prev-kv
//	Put key:"a" value:"1"
//	Put key:"a" value:"2" prev_kv:true
//	= prev_kv:{value:"1" version:1}
//	Put key:""
//	! InvalidArgument etcdserver: key is not provided
//
// README.md of the module lists the statements. The package does not judge: it returns a Trace of facts. The
// expectations (= and !) are checked on every server, the judge included, which is how the contract itself is tested.
package script

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// Case is one scenario.
type Case struct {
	Name  string
	File  string
	Fresh bool     // wants servers of its own
	Flags []string // of the servers; implies Fresh
	Steps []Step
}

// Step is one statement.
type Step struct {
	Line  int
	Verb  string // "Put", "stream", "=", ...
	Rest  string // the remainder of the line, macros not yet expanded
	Known string // name of the allowed difference that this step's answer shows, or ""
}

// Load parses all files that match the glob pattern.
func Load(pattern string) ([]Case, error) {
	files, err := filepath.Glob(pattern)
	if err != nil {
		return nil, err
	}
	var cases []Case
	seen := map[string]string{}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		cs, err := Parse(f, string(data))
		if err != nil {
			return nil, err
		}
		for _, c := range cs {
			if other, dup := seen[c.Name]; dup {
				return nil, fmt.Errorf("%s: case %q is also in %s", f, c.Name, other)
			}
			seen[c.Name] = f
		}
		cases = append(cases, cs...)
	}
	return cases, nil
}

// Parse reads one file's text.
func Parse(file, text string) ([]Case, error) {
	var cases []Case
	known := ""
	sc := bufio.NewScanner(strings.NewReader(text))
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		verb, rest, _ := strings.Cut(line, " ")
		rest = strings.TrimSpace(rest)
		switch {
		case verb == "case":
			c := Case{File: file}
			for i, w := range strings.Fields(rest) {
				switch {
				case i == 0:
					c.Name = w
				case w == "fresh":
					c.Fresh = true
				case strings.HasPrefix(w, "--"):
					c.Fresh, c.Flags = true, append(c.Flags, w)
				default:
					return nil, fmt.Errorf("%s:%d: unknown attribute %q of a case", file, n, w)
				}
			}
			cases = append(cases, c)
		case len(cases) == 0:
			return nil, fmt.Errorf("%s:%d: statement before the first case", file, n)
		case verb == "known":
			known = rest
		default:
			c := &cases[len(cases)-1]
			c.Steps = append(c.Steps, Step{Line: n, Verb: verb, Rest: rest, Known: known})
			known = ""
		}
	}
	return cases, sc.Err()
}

var (
	repeatMacro = regexp.MustCompile(`\[\[(\d+) (.*?)\]\]`)
	fillMacro   = regexp.MustCompile(`\$x\((\d+)\)`)
	indexMacro  = regexp.MustCompile(`\$(i|n)\b`)
	varMacro    = regexp.MustCompile(`\$([a-z]\w*)([+-]\d+)?`)
)

// expand replaces the macros of a statement: [[3 text]] repeats text with $i = 0..2 ($n: five digits), $x(100) is a
// hundred bytes of x, and $name, $name+1, $name-1 are variables.
func expand(s string, vars map[string]int64) (string, error) {
	var err error
	s = repeatMacro.ReplaceAllStringFunc(s, func(m string) string {
		part := repeatMacro.FindStringSubmatch(m)
		n, _ := strconv.Atoi(part[1])
		var b strings.Builder
		for i := range n {
			b.WriteString(withIndex(part[2], i) + " ")
		}
		return b.String()
	})
	s = fillMacro.ReplaceAllStringFunc(s, func(m string) string {
		n, _ := strconv.Atoi(fillMacro.FindStringSubmatch(m)[1])
		return strings.Repeat("x", n)
	})
	s = varMacro.ReplaceAllStringFunc(s, func(m string) string {
		part := varMacro.FindStringSubmatch(m)
		if part[1] == "i" || part[1] == "n" {
			return m // the index of repeat
		}
		v, ok := vars[part[1]]
		if !ok {
			err = fmt.Errorf("unknown variable $%s", part[1])
		}
		d, _ := strconv.ParseInt(part[2], 10, 64)
		return strconv.FormatInt(v+d, 10)
	})
	return s, err
}

func withIndex(s string, i int) string {
	return indexMacro.ReplaceAllStringFunc(s, func(m string) string {
		if m == "$n" {
			return fmt.Sprintf("%05d", i)
		}
		return strconv.Itoa(i)
	})
}
