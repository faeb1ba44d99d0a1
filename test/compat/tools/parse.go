package tools

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Script is a sequence of steps that shares a directory and a server.
type Script struct {
	Name    string
	File    string // base name without extension; scripts of one file may share a server
	Members int    // of the cluster it runs against; 0 for none, 1 shares a server unless Own
	TLS     bool   // the server also listens with TLS, at $TLS, and its directory has certificates
	Own     bool   // wants a server of its own
	Flags   []string
	Steps   []Step
}

// Step is one statement. Verb says which fields count.
type Step struct {
	Line     int
	Verb     string   // "run", "start", "send", "wait", "stop", "let", "file", "cat", "copy", "remove", "kill"
	Name     string   // of a process, a variable or a file
	Words    []string // the command line, or the arguments of the verb; variables not yet replaced
	Text     string   // the command line as written
	Stdin    []byte
	Env      []string
	Known    string // name of the chosen difference that this step shows
	Sorted   bool   // the lines of the output have no order
	Volatile bool   // the output is not compared, only that there is one
	Progress bool   // standard error shows progress: only that there is any is compared
	Until    string // repeated until the standard output contains this
	TTY      bool   // standard input is a terminal
}

// Commands counts the command lines of a script.
func (s Script) Commands() int {
	n := 0
	for _, st := range s.Steps {
		if st.Verb == "run" || st.Verb == "stop" {
			n++
		}
	}
	return n
}

// Load reads all files that match the pattern.
func Load(pattern string) ([]Script, error) {
	files, err := filepath.Glob(pattern)
	if err != nil {
		return nil, err
	}
	var scripts []Script
	seen := map[string]string{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		more, err := Parse(f, string(text))
		if err != nil {
			return nil, err
		}
		for _, s := range more {
			if at := seen[s.Name]; at != "" {
				return nil, fmt.Errorf("%s: script %s is in %s, too", f, s.Name, at)
			}
			seen[s.Name] = f
		}
		scripts = append(scripts, more...)
	}
	return scripts, nil
}

// Parse reads the scripts of one file. name is only for errors and for Script.File.
func Parse(name, text string) ([]Script, error) {
	p := &parser{file: strings.TrimSuffix(filepath.Base(name), filepath.Ext(name))}
	for i, line := range strings.Split(text, "\n") {
		if err := p.line(i+1, line); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, i+1, err)
		}
	}
	return p.scripts, p.dangling()
}

type parser struct {
	file    string
	scripts []Script
	next    Step // modifiers that wait for their command
}

// dangling reports modifiers without a command.
func (p *parser) dangling() error {
	if n := p.next; n.Env != nil || n.Known != "" || n.Sorted || n.Volatile || n.Progress || n.Until != "" || n.TTY {
		return fmt.Errorf("%s: a modifier has no command", p.file)
	}
	return nil
}

func (p *parser) line(n int, line string) error {
	if text, ok := strings.CutPrefix(line, "|"); ok {
		return p.input(text)
	}
	line = strings.TrimSpace(line)
	if line == "" || strings.HasPrefix(line, "#") {
		return nil
	}
	words, err := Split(line)
	if err != nil {
		return err
	}
	if words[0] == "script" {
		if err := p.dangling(); err != nil {
			return err
		}
		return p.script(words[1:])
	}
	if len(p.scripts) == 0 {
		return fmt.Errorf("%q comes before the first script", line)
	}
	if p.modifier(words) {
		return nil
	}
	step := p.next
	p.next = Step{}
	step.Line, step.Text, step.Verb, step.Words = n, line, words[0], words[1:]
	switch step.Verb {
	case "ctl", "etcdctl", "etcdutl", "quorate":
		step.Verb, step.Words = "run", words
	case "start", "send", "wait", "stop", "let", "file", "cat", "remove", "copy", "kill":
		if len(words) < 2 {
			return fmt.Errorf("%s needs a name", words[0])
		}
		step.Name, step.Words = words[1], words[2:]
	default:
		return fmt.Errorf("unknown statement %q", words[0])
	}
	s := &p.scripts[len(p.scripts)-1]
	s.Steps = append(s.Steps, step)
	return nil
}

// script begins one: a name, then "cluster", "offline" or "own", then flags of the server.
func (p *parser) script(words []string) error {
	if len(words) == 0 {
		return fmt.Errorf("a script needs a name")
	}
	s := Script{Name: words[0], File: p.file, Members: 1}
	for _, w := range words[1:] {
		switch {
		case w == "own":
			s.Own = true
		case w == "tls":
			s.TLS, s.Own = true, true
		case w == "cluster":
			s.Members, s.Own = 3, true
		case w == "offline":
			s.Members, s.Own = 0, true
		case strings.HasPrefix(w, "--"):
			s.Flags, s.Own = append(s.Flags, w), true
		default:
			return fmt.Errorf("a script is not %q", w)
		}
	}
	p.scripts = append(p.scripts, s)
	return nil
}

// modifier reports whether the line changes the next command only, and notes it.
func (p *parser) modifier(words []string) bool {
	switch {
	case words[0] == "env":
		p.next.Env = append(p.next.Env, words[1:]...)
	case words[0] == "bytes" && len(words) == 2:
		n, err := strconv.Atoi(words[1])
		if err != nil {
			return false
		}
		p.next.Stdin = bytes.Repeat([]byte("x"), n)
	case words[0] == "known" && len(words) == 2:
		p.next.Known = words[1]
	case words[0] == "until" && len(words) == 2:
		p.next.Until = words[1]
	case slices.Equal(words, []string{"sorted"}):
		p.next.Sorted = true
	case slices.Equal(words, []string{"volatile"}):
		p.next.Volatile = true
	case slices.Equal(words, []string{"progress"}):
		p.next.Progress = true
	case slices.Equal(words, []string{"tty"}):
		p.next.TTY = true
	default:
		return false
	}
	return true
}

// input adds a line to the standard input, or the content, of the step before: "| text" with a newline, "|- text" without.
func (p *parser) input(text string) error {
	if len(p.scripts) == 0 || len(p.scripts[len(p.scripts)-1].Steps) == 0 {
		return fmt.Errorf("input for no command")
	}
	steps := p.scripts[len(p.scripts)-1].Steps
	st := &steps[len(steps)-1]
	if rest, ok := strings.CutPrefix(text, "-"); ok {
		st.Stdin = append(st.Stdin, strings.TrimPrefix(rest, " ")...)
		return nil
	}
	st.Stdin = append(append(st.Stdin, strings.TrimPrefix(text, " ")...), '\n')
	return nil
}

// Split cuts a line into words as a shell would: blanks separate, '...' is literal, "..." is a Go string.
func Split(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	in := false
	for i := 0; i < len(line); {
		switch c := line[i]; c {
		case ' ', '\t':
			if in {
				words, in = append(words, word.String()), false
				word.Reset()
			}
			i++
		case '\'':
			end := strings.IndexByte(line[i+1:], '\'')
			if end < 0 {
				return nil, fmt.Errorf("a quote is not closed")
			}
			word.WriteString(line[i+1 : i+1+end])
			in, i = true, i+end+2
		case '"':
			quoted, err := strconv.QuotedPrefix(line[i:])
			if err != nil {
				return nil, fmt.Errorf("a quote is not closed or not Go's: %s", line[i:])
			}
			text, err := strconv.Unquote(quoted)
			if err != nil {
				return nil, err
			}
			word.WriteString(text)
			in, i = true, i+len(quoted)
		default:
			word.WriteByte(c)
			in, i = true, i+1
		}
	}
	if in {
		words = append(words, word.String())
	}
	return words, nil
}
