package archtest

import (
	"fmt"
	"strconv"
	"strings"
)

// Budget is one exception: a function, file, struct or interface that may be as large as Value, and why.
type Budget struct {
	Rule, File, Name string
	Value            int
	Reason           string
}

// ParseBudget reads lines `rule file name value reason`; # starts a comment.
func ParseBudget(text string) ([]Budget, error) {
	var out []Budget
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.SplitN(line, " ", 5)
		if len(f) < 5 || strings.TrimSpace(f[4]) == "" {
			return nil, fmt.Errorf("budget.txt:%d: %q: want `rule file name value reason`", i+1, line)
		}
		v, err := strconv.Atoi(f[3])
		if err != nil {
			return nil, fmt.Errorf("budget.txt:%d: value %q is not a number", i+1, f[3])
		}
		out = append(out, Budget{f[0], f[1], f[2], v, f[4]})
	}
	return out, nil
}

// Apply removes the findings that a row allows, and reports rows that allow nothing.
func Apply(found []Finding, budget []Budget) []Finding {
	used := make([]bool, len(budget))
	var out []Finding
	for _, f := range found {
		allowed := false
		for i, b := range budget {
			if b.Rule == f.Rule && b.File == f.File && b.Name == f.Name && f.Value <= b.Value {
				used[i], allowed = true, true
			}
		}
		if !allowed {
			out = append(out, f)
		}
	}
	for i, b := range budget {
		if !used[i] {
			out = append(out, Finding{Rule: "budget", File: b.File, Name: b.Name, Line: 1, Value: b.Value,
				Text: "exception for rule " + b.Rule + " is no longer needed: remove its row from budget.txt"})
		}
	}
	return out
}
