package config

import (
	"fmt"
	"strings"
)

// Usage is the short text that is printed on standard error after a wrong command line and before Help.
func Usage(program string) string {
	serve := program
	if program != programEtcd {
		serve += " serve"
	}
	return fmt.Sprintf(`Usage:

  %[1]s [flags]
    Start the server. No flag is needed: data goes to ./%[3]s, clients connect to %[4]s.

  %[1]s --config-file FILE
    Start it with the settings of a YAML or JSON file; other flags and variables are then ignored.
    Durations in the file are integer nanoseconds (600000000000 for 10m).

  %[1]s -h | --help
    List all flags.

  %[2]s --version
    Print the version.
`, serve, program, DefaultName+suffixOf(program), defaultClientURL)
}

func suffixOf(program string) string {
	if program == programEtcd {
		return dataDirSuffixAsEtcd
	}
	return dataDirSuffix
}

// Help lists all flags by section, with defaults, environment variables following from the names.
func Help() string {
	var b strings.Builder
	b.WriteString("Every flag --some-name can also be given as the environment variable ETCD_SOME_NAME.\n")
	last := Section(255)
	for i := range table {
		s := &table[i]
		if s.State == Historical || s.NoFlag {
			continue
		}
		if s.Section != last {
			last = s.Section
			fmt.Fprintf(&b, "\n%s:\n", s.Section)
		}
		fmt.Fprintf(&b, "  --%s '%s'\n    %s\n", s.Name, s.Default, s.Help)
		if s.More != "" {
			fmt.Fprintf(&b, "    %s\n", s.More)
		}
		if len(s.Choices) > 0 {
			fmt.Fprintf(&b, "    Values: %s\n", strings.Join(s.Choices, ", "))
		}
		if s.Kind == GateSet {
			for _, g := range gates {
				fmt.Fprintf(&b, "    %s=true|false (%s, default=%t): %s\n", g.Name, g.stage(), g.Default, g.why())
			}
		}
		if s.State != Active {
			fmt.Fprintf(&b, "    (%s: %s)\n", s.State, s.Why)
		}
	}
	return b.String()
}

func (g *Gate) stage() string {
	if g.Beta {
		return "BETA"
	}
	return "ALPHA"
}

// Stage is the maturity as metrics and help texts show it: ALPHA or BETA.
func (g *Gate) Stage() string { return g.stage() }

// Markdown is the whole of docs/config.md.
func Markdown() string {
	var b strings.Builder
	b.WriteString(`# Settings

This file is made from the table in package config (` + "`go test ./config -update`" + `); a test fails when they differ.

A setting is given as a flag (` + "`--name=value`, `--name value` or `-name value`; a boolean that shall be false needs the `=`" + `), as an
environment variable (` + "`ETCD_` and the name in upper case with underscores" + `), or in a YAML or JSON file named by
` + "`--config-file`" + `, which makes all other flags and variables be ignored. Giving one setting both as a flag and as a variable ends the
start. In the file, durations are integer nanoseconds and the milliseconds settings stay plain numbers; unknown keys are ignored with a
warning.

States: *active*; *accepted, not active yet* (a warning says so when it is set); *accepted, no effect* (this store has no need of it);
*refused for now* (starting with it is refused, because ignoring it would be unsafe).
`)
	last := Section(255)
	for i := range table {
		s := &table[i]
		if s.Section != last {
			last = s.Section
			fmt.Fprintf(&b, "\n## %s\n\n| setting | value | default | file key | state | what it does |\n|---|---|---|---|---|---|\n", s.Section)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", s.flagCell(), s.valueCell(), code(s.Default), s.keyCell(), s.stateCell(), s.helpCell())
	}
	b.WriteString("\n## Feature gates\n\n| gate | stage | default | state | what it does |\n|---|---|---|---|---|\n")
	for _, g := range gates {
		fmt.Fprintf(&b, "| %s | %s | %t | %s | %s |\n", code(g.Name), strings.ToLower(g.stage()), g.Default, g.State, g.Help)
	}
	b.WriteString("\n`AllAlpha` and `AllBeta` switch the gates of their stage that are not named themselves.\n")
	return b.String()
}

func (s *Setting) flagCell() string {
	if s.NoFlag {
		return "(file only)"
	}
	return code("--" + s.Name)
}

func (s *Setting) valueCell() string {
	if len(s.Choices) > 0 {
		return s.Kind.String() + " " + strings.Join(s.Choices, ", ")
	}
	return s.Kind.String()
}

func (s *Setting) keyCell() string {
	switch key := s.Key(); key {
	case "":
		return "none"
	case s.Name:
		return "same"
	default:
		return code(key)
	}
}

func (s *Setting) stateCell() string {
	if s.Why == "" {
		return s.State.String()
	}
	return s.State.String() + ": " + s.Why
}

func (s *Setting) helpCell() string { return strings.TrimSpace(s.Help + " " + s.More) }

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}
