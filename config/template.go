package config

import (
	"fmt"
	"strings"
)

// Template is a config file with every setting that a file can hold, its default and what it does, for people to edit. All of it
// is commented out, so that it changes nothing as it is.
func Template() string {
	var b strings.Builder
	fmt.Fprintf(&b, `## Settings of quorate %s, for "quorate serve --config-file FILE". Remove the "# " before a setting to change it.
## Flags and environment variables do not count beside a file. "quorate config check FILE" says whether it is right.
## Durations are integer nanoseconds: 600000000000 is 10 minutes.
`, Version)
	c := New()
	last, groups := Section(255), map[string]bool{}
	for i := range table {
		s := &table[i]
		group, _, nested := strings.Cut(s.Key(), ".")
		switch {
		case !s.inTemplate(), nested && groups[group]:
			continue
		case s.Section != last:
			last = s.Section
			fmt.Fprintf(&b, "\n## ---- %s ----\n", s.Section)
		}
		if !nested {
			b.WriteString("\n")
			s.writeTemplate(&b, c, s.Key(), "")
			continue
		}
		groups[group] = true
		fmt.Fprintf(&b, "\n# %s:\n", group)
		writeTemplateGroup(&b, c, group, "  ")
	}
	return b.String()
}

// inTemplate reports whether the setting is of use in a file.
func (s *Setting) inTemplate() bool { return s.Key() != "" && s.State != Historical }

// writeTemplateGroup writes all settings of one map together, wherever they are in the table, and then the maps in it.
func writeTemplateGroup(b *strings.Builder, c *Config, group, indent string) {
	var inner []string
	for i := range table {
		s := &table[i]
		rest, ok := strings.CutPrefix(s.Key(), group+".")
		if !ok || !s.inTemplate() {
			continue
		}
		if name, _, deeper := strings.Cut(rest, "."); deeper {
			if len(inner) == 0 || inner[len(inner)-1] != name {
				inner = append(inner, name)
			}
			continue
		}
		s.writeTemplate(b, c, rest, indent)
	}
	for _, name := range inner {
		fmt.Fprintf(b, "# %s%s:\n", indent, name)
		writeTemplateGroup(b, c, group+"."+name, indent+"  ")
	}
}

// writeTemplate writes one setting. What is said of it begins with two signs, so that removing "# " from all lines leaves a file.
func (s *Setting) writeTemplate(b *strings.Builder, c *Config, key, indent string) {
	lines := []string{s.Help}
	if s.More != "" {
		lines = append(lines, s.More)
	}
	if len(s.Choices) > 0 {
		lines = append(lines, "Values: "+strings.Join(s.Choices, ", ")+".")
	}
	if s.State != Active {
		lines = append(lines, fmt.Sprintf("(%s: %s)", s.State, s.Why))
	}
	for _, line := range lines {
		fmt.Fprintf(b, "## %s%s\n", indent, line)
	}
	fmt.Fprintf(b, "# %s%s: %s\n", indent, key, s.fileValue(c))
}
