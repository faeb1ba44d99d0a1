package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// event is a line of go test -json (see go doc test2json, and go help buildjson).
type event struct {
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Output      string
	FailedBuild string
}

// result is what is known of a package until it ends.
type result struct {
	name    string
	tests   map[string]*test
	order   []*test
	own     strings.Builder // output that no test made
	unwell  string          // why a failure of this package is not excused, "" when nothing speaks against it
	failed  bool
	passing int // whole tests that passed
}

// test is a test or a part of one, with everything that it printed.
type test struct {
	name   string
	output strings.Builder
	end    string // pass, fail, skip, or "" as long as it runs
}

// stream is the results of a whole go test.
type stream struct {
	out      io.Writer
	verbose  bool
	packages map[string]*result
	passed   int       // whole tests
	failed   []*result // in the order in which they ended
	unwell   string    // why nothing is excused at all
}

// line is the longest line of go test that is read as an event, bytes.
const line = 64 << 20

// read takes the events until their end.
func (s *stream) read(in io.Reader) error {
	s.packages = map[string]*result{}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, line)
	for lines.Scan() {
		var e event
		if !strings.HasPrefix(lines.Text(), "{") || json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Fprintln(s.out, lines.Text())
			continue
		}
		s.take(&e)
	}
	for _, p := range s.packages { // a process that was killed ends nothing
		s.print(p)
		p.unwell, p.failed = "it did not end", true
		s.failed = append(s.failed, p)
	}
	return lines.Err()
}

func (s *stream) take(e *event) {
	switch {
	case e.Action == "build-output":
		fmt.Fprint(s.out, e.Output)
		return
	case e.Action == "build-fail":
		s.unwell = e.ImportPath + " does not build"
		return
	case e.Package == "":
		return
	}
	p := s.packages[e.Package]
	if p == nil {
		p = &result{name: e.Package, tests: map[string]*test{}}
		s.packages[e.Package] = p
	}
	switch {
	case e.Action == "output":
		s.write(p, e)
	case e.Test != "":
		p.step(e)
	case e.Action == "pass" || e.Action == "skip" || e.Action == "fail":
		if e.FailedBuild != "" {
			p.unwell = "it does not build"
		}
		p.failed = e.Action == "fail"
		s.passed += p.passing
		s.print(p)
		delete(s.packages, e.Package)
		if p.failed {
			s.failed = append(s.failed, p)
		}
	}
}

func (p *result) step(e *event) {
	t := p.test(e.Test)
	switch e.Action {
	case "pass", "skip":
		t.end = e.Action
		t.output.Reset()
	case "fail":
		t.end = e.Action
	}
	if e.Action == "pass" && !strings.Contains(e.Test, "/") {
		p.passing++
	}
}

func (p *result) test(name string) *test {
	t := p.tests[name]
	if t == nil {
		t = &test{name: name}
		p.tests[name] = t
		p.order = append(p.order, t)
	}
	return t
}

// crashes are lines that no failed assertion prints: those of the runtime, of the race detector and of go test itself.
var crashes = regexp.MustCompile(`^(panic: |fatal error: |SIG[A-Z]+: |signal: |WARNING: DATA RACE|exit status ([02-9]|1\d))|race detected during execution of test|\[(build|setup) failed\]`)

// framing are the lines that go test prints only if it is asked to be verbose.
var framing = regexp.MustCompile(`^=== (RUN|PAUSE|CONT|NAME) `)

func (s *stream) write(p *result, e *event) {
	if s.verbose {
		fmt.Fprint(s.out, e.Output)
	}
	if p.unwell == "" && crashes.MatchString(e.Output) {
		p.unwell = "its output has: " + strings.TrimSpace(e.Output)
	}
	switch {
	case framing.MatchString(e.Output):
	case e.Test == "":
		p.own.WriteString(e.Output)
	default:
		if t := p.test(e.Test); t.end != "pass" && t.end != "skip" {
			t.output.WriteString(e.Output)
		}
	}
}

// print shows a package that has ended, as go test does.
func (s *stream) print(p *result) {
	if s.verbose {
		return
	}
	if p.failed || p.unwell != "" {
		for _, t := range p.order {
			fmt.Fprint(s.out, t.shown())
		}
		fmt.Fprint(s.out, p.own.String())
		return
	}
	for text := range strings.Lines(p.own.String()) {
		if strings.HasPrefix(text, "ok  \t") || strings.HasPrefix(text, "?   \t") {
			fmt.Fprint(s.out, text)
		}
	}
}

// shown is what a test printed in the order in which go test shows it: its end comes first, and parts stand further to the right.
func (t *test) shown() string {
	indent := strings.Repeat("    ", strings.Count(t.name, "/"))
	var first, rest strings.Builder
	for text := range strings.Lines(t.output.String()) {
		switch {
		case strings.HasPrefix(text, "--- FAIL: "), strings.HasPrefix(strings.TrimLeft(text, " "), "--- FAIL: "+t.name+" "):
			first.WriteString(indent + strings.TrimLeft(text, " "))
		case strings.HasPrefix(text, "    "):
			rest.WriteString(indent + text)
		default:
			rest.WriteString(text)
		}
	}
	return first.String() + rest.String()
}
