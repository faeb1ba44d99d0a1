package cli

import (
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/spf13/pflag"
	"go.uber.org/zap"
)

// prefixes of the environment variables that stand for flags.
const (
	etcdctlPrefix = "ETCDCTL"
	quoratePrefix = "QUORATE"
)

// envName is the environment variable of a flag.
func envName(prefix, flag string) string {
	return prefix + "_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// discarded takes any value: a variable that is read elsewhere and only must not be unknown.
type discarded struct{}

func (discarded) String() string   { return "" }
func (discarded) Set(string) error { return nil }
func (discarded) Type() string     { return "" }

// environment sets the flags that were not given from ETCDCTL_ variables. A variable beside its flag is a conflict that ends
// the program; one that is no flag is only remarked. Values that a flag cannot take are passed over, as etcdctl does.
func environment(p *Process, fs *pflag.FlagSet) error {
	given, used := map[string]bool{}, map[string]bool{}
	fs.VisitAll(func(f *pflag.Flag) {
		name := envName(etcdctlPrefix, f.Name)
		if f.Changed {
			given[name] = true
			return
		}
		if value := p.Getenv(name); value != "" {
			used[name] = true
			_ = fs.Set(f.Name, value)
		}
	})
	lg := newLogger(p.Stderr, zap.InfoLevel)
	for _, e := range p.Env {
		name, _, ok := strings.Cut(e, "=")
		switch {
		case !ok:
			lg.Warn("found invalid environment variable", zap.String("environment-variable", e))
		case used[name]:
		case given[name]:
			lg.WithOptions(zap.WithFatalHook(survive{})).Fatal(
				"conflicting environment variable is shadowed by corresponding command-line flag (either unset environment variable or disable flag))",
				zap.String("environment-variable", name))
			return Fail(ExitError, nil)
		case strings.HasPrefix(e, etcdctlPrefix+"_"):
			lg.Warn("unrecognized environment variable", zap.String("environment-variable", e))
		}
	}
	return nil
}

// ownEnvironment is what our own name makes of the environment: QUORATE_ before ETCDCTL_, flags before both, and a value that
// cannot be understood is an error that says so.
func ownEnvironment(p *Process, fs *pflag.FlagSet) error {
	known, errs := map[string]bool{"ETCDCTL_API": true}, []error{}
	fs.VisitAll(func(f *pflag.Flag) {
		ours, theirs := envName(quoratePrefix, f.Name), envName(etcdctlPrefix, f.Name)
		known[ours], known[theirs] = true, true
		if f.Changed {
			return
		}
		name := ours
		if p.Getenv(ours) == "" {
			name = theirs
		}
		if value := p.Getenv(name); value != "" {
			if err := fs.Set(f.Name, value); err != nil {
				errs = append(errs, fmt.Errorf("environment variable %s is %q: %w", name, value, errors.Unwrap(err)))
			}
		}
	})
	if len(errs) > 0 {
		return Fail(ExitBadArgs, errors.Join(errs...))
	}
	for _, e := range p.Env {
		name, _, _ := strings.Cut(e, "=")
		if strings.HasPrefix(name, etcdctlPrefix+"_") && !known[name] {
			text := "warning: environment variable " + name + " is not a setting"
			if near := nearest(name, sortedKeys(known)); near != "" {
				text += "; did you mean " + near + "?"
			}
			fmt.Fprintln(p.Stderr, text)
		}
	}
	return nil
}

func sortedKeys(m map[string]bool) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
