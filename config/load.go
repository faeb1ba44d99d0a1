package config

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"sort"
	"strings"
)

// Source is what a configuration is read from.
type Source struct {
	Program     string                       // base name of argv[0]; "etcd" changes the default data directory
	Args        []string                     // without the program and the verb
	Env         []string                     // NAME=value pairs, as os.Environ returns them
	ReadFile    func(string) ([]byte, error) // reads the config file
	DefaultHost func() (string, error)       // address of the default route, asked when listening on 0.0.0.0; may be nil
}

// Action is what the command line asks for.
type Action uint8

// The actions.
const (
	Run Action = iota
	ShowHelp
	ShowVersion
)

// Note is a line for the server's log about the configuration. Load returns notes because there is no log yet.
type Note struct {
	Warn    bool
	Message string
	Fields  [][2]string // key and value
}

// Loaded is the outcome of Load.
type Loaded struct {
	Config *Config // nil unless Action is Run
	Action Action
	Notes  []Note
}

// UsageError is a command line that cannot be understood. The program prints Text as it is and exits with 2.
type UsageError struct{ Text string }

func (e *UsageError) Error() string { return e.Text }

// ConflictError is a setting given both as a flag and as a variable, which ends the start: one of them would be lost.
type ConflictError struct{ Variable string }

func (e *ConflictError) Error() string {
	return "conflicting environment variable is shadowed by corresponding command-line flag (either unset environment variable or disable flag))"
}

// Load reads the settings: the config file alone when there is one, else flags and variables. The Notes are worth
// logging even when it returns an error. A *UsageError ends the program with 2, any other error with 1.
func Load(src Source) (Loaded, error) {
	l := &loader{src: src, config: New()}
	positional, err := l.parseFlags()
	switch {
	case errors.Is(err, flag.ErrHelp):
		return Loaded{Action: ShowHelp}, nil
	case err != nil:
		return Loaded{}, err
	case len(positional) > 0:
		return Loaded{}, fmt.Errorf("%q is not a valid flag", positional[0])
	case l.config.inactive["version"] == "true":
		return Loaded{Action: ShowVersion}, nil
	}
	if path := l.filePath(); path != "" {
		err = l.loadFile(path)
	} else {
		err = l.loadEnv()
	}
	if err == nil {
		err = l.derive()
	}
	if err == nil {
		err = l.config.Validate()
	}
	l.noteStates()
	return Loaded{Config: l.config, Notes: l.notes}, err
}

// Finish derives what follows from other settings and validates, for programs that made a Config with New and Set.
func (c *Config) Finish() error {
	l := &loader{config: c}
	if err := l.derive(); err != nil {
		return err
	}
	return c.Validate()
}

type loader struct {
	src    Source
	config *Config
	notes  []Note
}

func (l *loader) note(warn bool, message string, fields ...[2]string) {
	l.notes = append(l.notes, Note{Warn: warn, Message: message, Fields: fields})
}

// flagValue lets the standard flag package fill one row.
type flagValue struct {
	setting *Setting
	config  *Config
}

func (v flagValue) Set(text string) error {
	if err := v.setting.set(v.config, text); err != nil {
		return err
	}
	v.config.origin[v.setting.Name] = "flag"
	return nil
}

func (v flagValue) String() string { return "" }

// IsBoolFlag allows a flag without a value. Historical flags never took one.
func (v flagValue) IsBoolFlag() bool {
	return v.setting != nil && (v.setting.Kind == Bool || v.setting.State == Historical)
}

func (l *loader) parseFlags() (positional []string, err error) {
	var out bytes.Buffer
	fs := flag.NewFlagSet(l.src.Program, flag.ContinueOnError)
	fs.SetOutput(&out)
	fs.Usage = func() { io.WriteString(&out, Usage(l.src.Program)) }
	for i := range table {
		if !table[i].NoFlag {
			fs.Var(flagValue{&table[i], l.config}, table[i].Name, table[i].Help)
		}
	}
	switch err := fs.Parse(l.src.Args); {
	case err == nil:
		return fs.Args(), nil
	case errors.Is(err, flag.ErrHelp):
		return nil, err
	}
	return nil, &UsageError{Text: out.String()}
}

// environment splits the source's variables; the last of several with one name counts, as for a process.
func (l *loader) environment() map[string]string {
	env := make(map[string]string, len(l.src.Env))
	for _, pair := range l.src.Env {
		if name, value, ok := strings.Cut(pair, "="); ok {
			env[name] = value
		}
	}
	return env
}

func (l *loader) filePath() string {
	if path := l.config.inactive["config-file"]; path != "" {
		return path
	}
	return l.environment()[lookup("config-file").Env()]
}

// otherVariables begin with ETCD_ without being settings.
var otherVariables = map[string]bool{"ETCD_UNSUPPORTED_ARCH": true, "ETCD_VERIFY": true}

// loadEnv takes the ETCD_ variables. One that is empty counts as not given.
func (l *loader) loadEnv() error {
	env := l.environment()
	used := map[string]bool{}
	for i := range table {
		s := &table[i]
		value, given := env[s.Env()]
		if !given || s.NoFlag {
			continue
		}
		used[s.Env()] = true
		switch {
		case s.Name == "version":
			if value != "" {
				l.note(true, "cannot set special environment variable", [2]string{"key", s.Env()}, [2]string{"value", value})
			}
		case l.config.IsSet(s.Name):
			return &ConflictError{Variable: s.Env()}
		case value != "":
			if err := s.set(l.config, value); err != nil {
				return fmt.Errorf("invalid value %q for %s: %w", value, s.Env(), err)
			}
			l.config.origin[s.Name] = "env"
			if s.Secret {
				value = secretMask
			}
			l.note(false, "recognized and used environment variable", [2]string{"variable-name", s.Env()}, [2]string{"variable-value", value})
		}
	}
	var unknown []string
	for name := range env {
		if strings.HasPrefix(name, "ETCD_") && !used[name] && !otherVariables[name] {
			unknown = append(unknown, name)
		}
	}
	sort.Strings(unknown)
	for _, name := range unknown {
		l.note(true, "unrecognized environment variable", [2]string{"environment-variable", name + "=" + env[name]})
	}
	l.raiseRaftTimeouts()
	return nil
}

// raiseRaftTimeouts applies the lower bound that etcd has for connections between members.
func (l *loader) raiseRaftTimeouts() {
	for _, name := range []string{"raft-read-timeout", "raft-write-timeout"} {
		s := lookup(name)
		v, err := s.parse(l.config.inactive[name])
		if err != nil {
			panic(fmt.Sprintf("BUG: stored value of %s: %v", name, err))
		}
		if text := raftTimeoutMin.String(); lessDuration(v, raftTimeoutMin) {
			l.config.inactive[name] = text
			l.note(false, name+" increased to minimum value: "+text)
		}
	}
}

// noteStates says which of the given settings do nothing, and why.
func (l *loader) noteStates() {
	for i := range table {
		s := &table[i]
		if !l.config.IsSet(s.Name) || !s.changed(l.config) {
			continue
		}
		value := [2]string{"value", s.get(l.config)}
		if s.Secret {
			value[1] = secretMask
		}
		why := [2]string{"reason", s.Why}
		switch s.State {
		case Later:
			l.note(true, "--"+s.Name+" is accepted but not active yet", value, why)
		case NoEffect:
			l.note(false, "--"+s.Name+" has no effect", value, why)
		case Historical:
			l.note(true, "flag is no longer supported - ignoring", [2]string{"flag-name", s.Name})
		}
	}
	l.noteGates()
	l.notes = append(l.notes, l.config.tlsNotes()...)
}

func (l *loader) noteGates() {
	for i, gate := range gates {
		set := l.config.Gates.value[gateGroups+i] != 0
		if set && gate.State != Active && l.config.Gates.Enabled(gate.Name) != gate.Default {
			l.note(gate.State == Later, "feature gate "+gate.Name+" has no effect", [2]string{"reason", gate.why()})
		}
	}
}

func (g *Gate) why() string {
	if g.State == Later {
		return "accepted but not active yet: " + g.Help
	}
	return g.Help
}
