package v2

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A script is a file of testdata; each has a pair of servers of its own. Its statements, one a line:
//
//	METHOD PATH [NAME=VALUE ...]   a request; what follows becomes its form, or with {...} its JSON
//	  Name: value                  its headers follow, indented
//	  user NAME:PASSWORD           that is HTTP Basic
//	  body TEXT                    as it is, with Go's escapes when quoted
//	  = STATUS [CODE]              what the author expects; etcd is held to it, too
//	  let NAME REGEXP              remembers the first group as $NAME, which is not compared then
//	watch NAME METHOD PATH         opens a stream, and goes on when its headers have come
//	read NAME N                    takes so many lines of it
//	end NAME                       takes what is left, to its end
//	close NAME                     goes away
//	until METHOD PATH REGEXP       asks until the answer matches, and compares nothing
//	repeat N METHOD PATH ...       so many times; # in it is the number
//	differs ROW                    the statement before differs, as a row of docs/COMPAT.md says; it must
type statement struct {
	at     int
	verb   string // "", watch, read, end, close, until
	name   string
	n      int
	match  *regexp.Regexp
	req    request
	status int // 0: not said
	code   int
	lets   [][2]string
	row    string
}

func parseScript(t *testing.T, file string) (all []*statement) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(text), "\n") {
		words := strings.Fields(line)
		if len(words) == 0 || words[0][0] == '#' {
			continue
		}
		var last *statement
		if len(all) > 0 {
			last = all[len(all)-1]
		}
		s := &statement{at: i + 1}
		if line[0] == ' ' || words[0] == "differs" {
			if err := last.more(strings.TrimSpace(line), words); err != nil {
				t.Fatalf("%s:%d: %v", file, i+1, err)
			}
			continue
		}
		times := 1
		if words[0] == "repeat" {
			times, err = strconv.Atoi(words[1])
			words, line = words[2:], strings.SplitN(line, " ", 3)[2]
		}
		if err == nil {
			err = s.parse(words, line)
		}
		if err != nil {
			t.Fatalf("%s:%d: %v", file, i+1, err)
		}
		for n := range times {
			c := *s
			if times > 1 {
				c.req.path, c.req.body = strings.ReplaceAll(c.req.path, "#", strconv.Itoa(n)), strings.ReplaceAll(c.req.body, "%23", strconv.Itoa(n))
			}
			all = append(all, &c)
		}
	}
	return all
}

func (s *statement) parse(words []string, line string) (err error) {
	switch words[0] {
	case "watch", "read", "end", "close":
		s.verb, s.name = words[0], words[1]
		if words[0] == "watch" {
			s.req = request{method: words[2], path: words[3]}
		}
		if words[0] == "read" {
			s.n, err = strconv.Atoi(words[2])
		}
		return err
	case "until":
		s.verb, s.req = "until", request{method: words[1], path: words[2]}
		s.match, err = regexp.Compile(strings.Join(words[3:], " "))
		return err
	}
	s.req = request{method: words[0], path: words[1]}
	rest := strings.TrimSpace(strings.TrimPrefix(strings.TrimPrefix(line, words[0]+" "), words[1]))
	switch {
	case rest == "":
	case rest[0] == '{':
		s.req.body = rest
		s.req.headers = append(s.req.headers, [2]string{"Content-Type", "application/json"})
	default:
		form := []string{}
		for _, w := range strings.Fields(rest) {
			name, value, ok := strings.Cut(w, "=")
			if !ok {
				return fmt.Errorf("parameter %q", w)
			}
			form = append(form, url.QueryEscape(name)+"="+url.QueryEscape(value))
		}
		s.req.body = strings.Join(form, "&")
		s.req.headers = append(s.req.headers, [2]string{"Content-Type", "application/x-www-form-urlencoded"})
	}
	return nil
}

// more adds a line to a statement.
func (s *statement) more(line string, words []string) (err error) {
	switch words[0] {
	case "differs":
		s.row = words[1]
	case "user":
		s.req.headers = append(s.req.headers, [2]string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte(words[1]))})
	case "body":
		s.req.body = strings.TrimPrefix(line, "body ")
		if s.req.body[0] == '"' {
			s.req.body, err = strconv.Unquote(s.req.body)
		}
	case "=":
		if s.status, err = strconv.Atoi(words[1]); err == nil && len(words) > 2 {
			s.code, err = strconv.Atoi(words[2])
		}
	case "let":
		s.lets = append(s.lets, [2]string{words[1], words[2]})
	default:
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return fmt.Errorf("header %q", line)
		}
		s.req.headers = append(s.req.headers, [2]string{name, strings.TrimSpace(value)})
	}
	return err
}

// run performs a statement on both and returns what was wrong.
func (p *pair) run(s *statement) []string {
	targets := []*target{p.judge, p.other}
	var a [2]*answer
	each := func(f func(*target) *answer) {
		both(func() { a[0] = f(targets[0]) }, func() { a[1] = f(targets[1]) })
	}
	switch s.verb {
	case "watch":
		each(func(t *target) *answer { return t.watch(s.name, t.expand(s.req)) })
	case "read", "end":
		each(func(t *target) *answer { return t.watches[s.name].read(s.n) })
	case "close":
		each(func(t *target) *answer { t.watches[s.name].close(); return &answer{} })
	case "until":
		each(func(t *target) *answer { return t.until(t.expand(s.req), s.match) })
	default:
		each(func(t *target) *answer { return t.do(t.expand(s.req)) })
	}
	for _, let := range s.lets {
		for i, t := range targets {
			m := regexp.MustCompile(let[1]).FindStringSubmatch(a[i].body)
			if m == nil {
				return []string{fmt.Sprintf("%s: %s does not match %q", t.name, let[1], a[i].body)}
			}
			t.vars[let[0]] = m[1]
		}
	}
	wrong := p.differences(s.req, a[0], a[1])
	if a[0].err != nil {
		wrong = append(wrong, fmt.Sprintf("%s: %v", p.judge.name, a[0].err))
	}
	if s.status != 0 && a[0].status != s.status {
		wrong = append(wrong, fmt.Sprintf("%s answers %d, and %d is expected: %s", p.judge.name, a[0].status, s.status, a[0].body))
	}
	if s.code != 0 && !strings.HasPrefix(a[0].body, fmt.Sprintf(`{"errorCode":%d,`, s.code)) {
		wrong = append(wrong, fmt.Sprintf("%s does not say %d: %s", p.judge.name, s.code, a[0].body))
	}
	return wrong
}

// until asks again until the body matches. Nothing of it is compared.
func (s *target) until(q request, match *regexp.Regexp) *answer {
	deadline := time.NewTimer(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		a := s.do(q)
		if a.err == nil && match.MatchString(a.body) {
			return &answer{}
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return &answer{err: fmt.Errorf("%s %s: still %q after %v", q.method, q.path, a.body, patience)}
		}
	}
}

// reachable are the codes that a request can be answered with by one healthy member; 300 and 301 need one that is not, 400, 402 and
// above, and the others of the table are of no release since 2.0.
var reachable = []int{100, 101, 102, 104, 105, 107, 108, 110, 201, 202, 203, 209, 210, 211, 212, 401}

// found is what scripts have shown.
type found struct {
	sync.Mutex
	requests int
	scripts  int // run to their ends
	codes    map[int]bool
	rows     map[string]bool
}

// TestScripts runs every file of testdata, and holds that all codes were seen and all differences were there.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.v2")
	if err != nil || len(files) == 0 {
		t.Fatal(err, len(files))
	}
	f := &found{codes: map[int]bool{}, rows: map[string]bool{}}
	t.Run("all", func(t *testing.T) {
		for _, file := range files {
			t.Run(strings.TrimSuffix(filepath.Base(file), ".v2"), func(t *testing.T) {
				t.Parallel()
				f.script(t, file)
			})
		}
	})
	if f.scripts < len(files) { // only some were asked for, or they failed
		return
	}
	for _, code := range reachable {
		if !f.codes[code] {
			t.Errorf("no request was answered with code %d", code)
		}
	}
	for _, k := range Known {
		if !f.rows[k.Row] && !self {
			t.Errorf("no script shows the difference %s", k.Row)
		}
	}
	t.Logf("%d requests in %d scripts", f.requests, len(files))
}

func (f *found) script(t *testing.T, file string) {
	p := startPair(t)
	for _, s := range parseScript(t, file) {
		wrong := p.run(s)
		f.Lock()
		if s.verb == "" || s.verb == "watch" {
			f.requests++
		}
		f.rows[s.row] = true
		f.Unlock()
		if s.row != "" && !self {
			if len(wrong) == 0 || !slices.ContainsFunc(Known, func(k Difference) bool { return k.Row == s.row }) {
				t.Errorf("%s:%d: %s does not show any more, or is not in the table", file, s.at, s.row)
			}
			continue
		}
		for _, line := range wrong {
			t.Errorf("%s:%d: %s %s %s %s: %s", file, s.at, s.verb, s.req.method, s.req.path, short(s.req.body), line)
		}
		if skewed(wrong) {
			t.Fatal("what follows would differ as well")
		}
	}
	f.Lock()
	defer f.Unlock()
	f.scripts++
	maps.Copy(f.codes, p.judge.reached)
	for _, s := range []*target{p.judge, p.other} {
		for _, w := range s.watches {
			w.close()
		}
	}
}

// skewed says that the stores have gone apart: the indices differ.
func skewed(lines []string) bool {
	return slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "X-Etcd-Index") })
}
