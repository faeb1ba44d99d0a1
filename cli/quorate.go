package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc/status"
)

// Groups of verbs that only our own name has.
const (
	GroupServer  = "server"
	GroupInsight = "insight"
)

// ExitUsage is the exit code of our own name for a command line that cannot be understood.
const ExitUsage = 2

// Own runs a command line under our own name: root, with whatever commands it has, gets etcdctl's verbs and more, the groups
// of the help and the flags of a client. It returns the exit code; commands that root had before report theirs themselves.
func Own(p Process, root *cobra.Command, more ...Verb) int {
	t := newTool(p, true)
	root.RunE = func(c *cobra.Command, _ []string) error {
		return errors.New("no verb: these are flags of a client; name a verb, too, like get or put")
	}
	root.SilenceErrors, root.SilenceUsage, root.DisableSuggestions = true, true, true
	root.PersistentFlags().AddFlagSet(t.flags)
	_ = root.RegisterFlagCompletionFunc("write-out", completeFormats)
	root.AddGroup(&cobra.Group{ID: GroupServer, Title: "Server"})
	verbs := merge(Verbs(), more)
	if slices.ContainsFunc(verbs, func(v Verb) bool { return v.Group == GroupInsight }) {
		root.AddGroup(&cobra.Group{ID: GroupInsight, Title: "Insight"})
	}
	for _, g := range groups() {
		g.Title = strings.TrimSuffix(g.Title, " commands")
		root.AddGroup(g)
	}
	for _, v := range verbs {
		root.AddCommand(t.command(v))
	}
	root.AddCommand(t.command(t.completionVerb()), t.command(t.optionsVerb()))
	root.SetHelpCommandGroupID(GroupUtility)
	exemplify(root)
	return t.execute(root)
}

// merge adds verbs to a list. One whose name is there already gives that one the verbs inside it.
func merge(verbs, more []Verb) []Verb {
	name := func(v Verb) string {
		first, _, _ := strings.Cut(v.Use, " ")
		return first
	}
	for _, m := range more {
		i := slices.IndexFunc(verbs, func(v Verb) bool { return name(v) == name(m) })
		if i < 0 {
			verbs = append(verbs, m)
			continue
		}
		verbs[i].Verbs = append(slices.Clone(verbs[i].Verbs), m.Verbs...)
	}
	return verbs
}

// IsGlobalFlag says whether an argument is a flag of a client that may stand before the verb. Those that a server has, too,
// are the server's.
func IsGlobalFlag(arg string) bool {
	if strings.HasPrefix(arg, "-w") {
		return true
	}
	name, ok := strings.CutPrefix(arg, "--")
	if !ok || strings.HasPrefix(name, "discovery-") {
		return false
	}
	name, _, _ = strings.Cut(name, "=")
	return newTool(Process{}, true).flags.Lookup(name) != nil
}

// ours says the program's name instead of etcdctl's.
func ours(text string) string { return strings.ReplaceAll(text, "etcdctl ", "quorate ") }

// rename gives a verb our own name, and one that holds others an error for those that it does not hold.
func rename(c *cobra.Command, holds bool) {
	c.Short, c.Long, c.Example = ours(c.Short), ours(c.Long), ours(c.Example)
	if c.Name() == "completion" {
		c.Long = strings.NewReplacer("/etcdctl", "/quorate", "_etcdctl", "_quorate", "etcdctl.", "quorate.").Replace(c.Long)
	}
	if holds {
		c.RunE = func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.Help()
			}
			return fmt.Errorf("unknown command %q for %q", args[0], c.CommandPath())
		}
	}
}

// mistyped shows a command line's mistake, and what was probably meant.
func (t *Tool) mistyped(root, c *cobra.Command, err error) {
	t.code = ExitUsage
	text := err.Error()
	if near := t.meant(root, c, text); near != "" {
		text += "; did you mean " + near + "?"
	}
	hint := `Run "quorate --help" for the verbs.`
	if c != nil && c != root {
		hint = fmt.Sprintf("Run \"%s --help\" for its arguments and flags.", c.CommandPath())
	}
	fmt.Fprintf(t.process.Stderr, "quorate: %s\n%s\n", text, hint)
}

// meant finds the verb or flag that is nearest to the one that does not exist.
func (t *Tool) meant(root, c *cobra.Command, text string) string {
	if c == nil {
		c = root
	}
	if _, name, ok := strings.Cut(text, "unknown flag: --"); ok {
		var names []string
		for _, fs := range []*pflag.FlagSet{c.Flags(), c.InheritedFlags()} {
			fs.VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		}
		if near := nearest(name, names); near != "" {
			return "--" + near
		}
	}
	if _, rest, ok := strings.Cut(text, `unknown command "`); ok {
		name, _, _ := strings.Cut(rest, `"`)
		var names []string
		for _, v := range c.Commands() {
			if !v.Hidden {
				names = append(names, v.Name())
			}
		}
		slices.Sort(names)
		return nearest(name, names)
	}
	return ""
}

// words are an error's text without gRPC's names of codes, and with the time that was waited in vain.
func (s *Session) words(err error) string {
	text := err.Error()
	var answer interface {
		error
		GRPCStatus() *status.Status
	}
	if errors.As(err, &answer) {
		text = strings.Replace(text, answer.Error(), answer.GRPCStatus().Message(), 1)
	}
	waited := s.Globals.Dial.CommandTimeout
	var f *Failure
	if errors.As(err, &f) && f.Code == ExitBadConnection {
		waited = s.Globals.Dial.Timeout
	}
	if isUnreachable(err) {
		text = strings.Replace(text, context.DeadlineExceeded.Error(), "no answer within "+waited.String(), 1)
	}
	return text
}

// Colours of errors on a terminal.
const (
	boldRed = "\x1b[1;31m"
	plain   = "\x1b[0m"
)

// explain shows how a verb failed: where, why, and what to do next.
func (t *Tool) explain(s *Session, err error) {
	w := t.process.Stderr
	verb := s.cmd.CommandPath()
	if t.process.Colored(w) {
		verb = boldRed + verb + plain
	}
	asked := ""
	if s.spec != nil && fromServer(err) {
		asked = strings.Join(s.spec.Endpoints, ",") + ": "
	}
	fmt.Fprintf(w, "%s: %s%s\n", verb, asked, s.words(err))
	if hint := advice(err); hint != "" {
		fmt.Fprintf(w, "  %s\n", hint)
	}
	if isUsage(err) {
		fmt.Fprintf(w, "Run \"%s --help\" for its arguments and flags.\n", s.cmd.CommandPath())
		return
	}
	if isUnreachable(err) && s.spec != nil {
		s.whatAnswered(s.spec.Endpoints)
	}
}
