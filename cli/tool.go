package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"quorate.dev/quorate/internal/clock"
)

// Verb is one command of the tool, as data.
type Verb struct {
	Use, Short, Long, Example string
	Group                     string // of the help: one of the Group constants; "" for a verb inside another
	Flags                     func(*pflag.FlagSet)
	Shared                    func(*pflag.FlagSet) // flags that the verbs inside have, too
	OwnFlags                  func(*pflag.FlagSet) // flags that it has under our own name only
	Complete                  map[string][]string  // values of flags, for the shell
	Keys                      bool                 // arguments are keys, which the shell completes from the server under our own name
	Interrupts                bool                 // the verb itself ends when Process.Context does, and cleans up
	Run                       func(*Session, []string) error
	Verbs                     []Verb
	// Shape changes the command where the fields above do not suffice.
	Shape func(*cobra.Command)
}

// Groups of verbs in the help.
const (
	GroupKV          = "kv"
	GroupMaintenance = "cluster maintenance"
	GroupConcurrency = "concurrency"
	GroupAuth        = "authentication"
	GroupUtility     = "utility"
)

// groups returns the groups in the order of the help. They are made anew because cobra keeps pointers.
func groups() []*cobra.Group {
	return []*cobra.Group{
		{ID: GroupKV, Title: "Key-value commands"},
		{ID: GroupMaintenance, Title: "Cluster maintenance commands"},
		{ID: GroupConcurrency, Title: "Concurrency commands"},
		{ID: GroupAuth, Title: "Authentication commands"},
		{ID: GroupUtility, Title: "Utility commands"},
	}
}

// Tool is one command line being interpreted: a personality of the program, the process it runs in and the global flags.
type Tool struct {
	process Process
	globals Globals
	flags   *pflag.FlagSet // the global ones
	own     bool           // our own name, not etcdctl's
	clock   clock.Clock
	code    int
}

func init() {
	cobra.EnablePrefixMatching = true // "mem li" is "member list", as for etcdctl
}

// newTool reads the global flags' defaults into a tool.
func newTool(p Process, own bool) *Tool {
	if p.Context == nil {
		p.Context = context.Background()
	}
	if p.Args == nil {
		p.Args = []string{}
	}
	if p.Stdin == nil {
		p.Stdin = strings.NewReader("")
	}
	t := &Tool{process: p, own: own, clock: clock.Real(), flags: pflag.NewFlagSet("global", pflag.ContinueOnError)}
	t.globals.register(t.flags, !own)
	t.flags.VisitAll(func(f *pflag.Flag) { f.Hidden = true })
	return t
}

// command makes the cobra command of a verb.
func (t *Tool) command(v Verb) *cobra.Command {
	c := &cobra.Command{Use: v.Use, Short: v.Short, Long: v.Long, Example: v.Example, GroupID: v.Group}
	if v.Flags != nil {
		v.Flags(c.Flags())
	}
	if v.OwnFlags != nil && t.own {
		v.OwnFlags(c.Flags())
	}
	if v.Shared != nil {
		v.Shared(c.PersistentFlags())
	}
	for name, values := range v.Complete {
		values := values
		_ = c.RegisterFlagCompletionFunc(name, func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return values, cobra.ShellCompDirectiveDefault
		})
	}
	if v.Run != nil {
		c.RunE = func(c *cobra.Command, args []string) error { return t.run(v, c, args) }
	}
	if v.Keys && t.own {
		c.ValidArgsFunction = t.completeKeys
	}
	if v.Shape != nil {
		v.Shape(c)
	}
	if t.own {
		rename(c, len(v.Verbs) > 0 && v.Run == nil)
	}
	for _, inner := range v.Verbs {
		c.AddCommand(t.command(inner))
	}
	return c
}

// session is what a verb runs in.
func (t *Tool) session(c *cobra.Command, interrupts bool) *Session {
	s := &Session{Process: &t.process, Globals: &t.globals, Flags: c.Flags(), Context: t.process.Context, tool: t, cmd: c}
	if interrupts {
		s.Context = context.WithoutCancel(t.process.Context)
	}
	s.Context, s.stop = context.WithCancelCause(s.Context)
	return s
}

// run runs a verb and sets the exit code. The only error it returns is one that the caller shows in its own way.
func (t *Tool) run(v Verb, c *cobra.Command, args []string) error {
	s := t.session(c, v.Interrupts)
	defer s.close()
	err := v.Run(s, args)
	if t.process.Context.Err() != nil && !v.Interrupts {
		t.code = interruptCode(t.process.Context)
		return nil
	}
	if err == nil {
		return nil
	}
	if errors.Is(context.Cause(s.Context), errRefused) {
		err = errRefused
	}
	t.code = ExitError
	var f *Failure
	if errors.As(err, &f) {
		t.code = f.Code
		if f.Err == nil {
			return nil
		}
	}
	if t.own {
		t.explain(s, err)
		return nil
	}
	fmt.Fprintln(t.process.Stderr, "Error:", err)
	return nil
}

// Main runs a command line of etcdctl and returns its exit code.
func Main(p Process) int {
	t := newTool(p, false)
	root := &cobra.Command{Use: "etcdctl", Short: "A simple command line client for etcd3.", SuggestFor: []string{"etcdctl"}}
	root.PersistentFlags().AddFlagSet(t.flags)
	_ = root.RegisterFlagCompletionFunc("write-out", completeFormats)
	root.AddGroup(groups()...)
	for _, v := range Verbs() {
		root.AddCommand(t.command(v))
	}
	root.AddCommand(t.command(t.versionVerb("etcdctl")), t.command(t.completionVerb()), t.command(t.optionsVerb()))
	root.SetHelpCommandGroupID(GroupUtility)
	root.Flags().BoolP("help", "h", false, "help for etcdctl")
	root.Flags().Lookup("help").Hidden = true
	return t.execute(root)
}

func completeFormats(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return []string{"fields", "json", "protobuf", "simple", "table"}, cobra.ShellCompDirectiveDefault
}

// execute runs the command line on root. Help goes to stdout, everything else that cobra says to stderr.
func (t *Tool) execute(root *cobra.Command) int {
	root.SetArgs(t.process.Args)
	root.SetIn(t.process.Stdin)
	root.SetErr(t.process.Stderr)
	root.SetOut(t.process.Stderr)
	if len(t.process.Args) > 0 && strings.HasPrefix(t.process.Args[0], "__complete") {
		root.SetOut(t.process.Stdout)
	}
	help := root.HelpFunc()
	root.SetHelpFunc(func(c *cobra.Command, args []string) {
		root.SetOut(t.process.Stdout)
		defer root.SetOut(t.process.Stderr)
		help(c, args)
		t.afterHelp(t.process.Stdout)
	})
	c, err := root.ExecuteContextC(t.process.Context)
	if err != nil {
		if !t.own {
			return ExitError
		}
		t.mistyped(root, c, err)
	}
	return t.code
}

func (t *Tool) afterHelp(w io.Writer) {
	if t.own {
		fmt.Fprintln(w, `Use "quorate options" for the flags that every verb of a client has (--endpoints, --user, --write-out, ...).`)
		return
	}
	fmt.Fprintln(w, `Use "etcdctl options" for a list of global command-line options (applies to all commands).`)
}
