package offline

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"quorate.dev/quorate/cli"
	"quorate.dev/quorate/cli/render"
	"quorate.dev/quorate/internal/clock"
)

// What etcdutl reports to be.
const (
	etcdVersion = "3.7.3"
	apiVersion  = "3.7"
)

// tool is one command line being interpreted.
type tool struct {
	process cli.Process
	own     bool // our own name, not etcdutl's
	timeout time.Duration
	format  string
	clock   clock.Clock
	code    int
}

// Main runs a command line of etcdutl and returns its exit code.
func Main(p cli.Process) int {
	t := newTool(p, false)
	root := &cobra.Command{Use: "etcdutl", Short: "An administrative command line tool for etcd3.", SuggestFor: []string{"etcdutl"}}
	t.globals(root.PersistentFlags())
	_ = root.RegisterFlagCompletionFunc("write-out", completeFormats)
	root.AddCommand(t.defragCommand(), t.snapshotCommand(), t.hashKVCommand(), t.versionCommand(), t.completionCommand(), t.migrateCommand())
	return t.execute(root)
}

// Own says whether a command line under our own name is for Run, and not for a server's client.
func Own(args []string) bool {
	return len(args) > 0 && args[0] == "hashkv" || len(args) > 1 && args[0] == "snapshot" && (args[1] == "status" || args[1] == "restore")
}

// Run runs a command line for which Own is true.
func Run(p cli.Process) int {
	t := newTool(p, true)
	root := &cobra.Command{Use: "quorate", SilenceErrors: true, SilenceUsage: true}
	t.globals(root.PersistentFlags())
	_ = root.RegisterFlagCompletionFunc("write-out", completeFormats)
	root.AddCommand(t.snapshotCommand(), t.hashKVCommand())
	return t.execute(root)
}

// Verbs are the verbs for which Own is true, for a larger command line under our own name: its help and its completion show
// them, and it runs them when flags stand before the verb.
func Verbs() []cli.Verb {
	verb := func(inside string, make func(*tool) *cobra.Command) cli.Verb {
		shown := make(newTool(cli.Process{}, true))
		return cli.Verb{Use: shown.Use, Short: shown.Short, Long: shown.Long, Interrupts: true, Shape: func(c *cobra.Command) {
			c.Flags().AddFlagSet(shown.Flags())
			c.Args = shown.Args
		}, Run: func(s *cli.Session, args []string) error {
			t := newTool(*s.Process, true)
			c := make(t)
			c.Flags().VisitAll(func(f *pflag.Flag) {
				if given := s.Flags.Lookup(f.Name); given != nil && given.Changed {
					_ = c.Flags().Set(f.Name, given.Value.String()) // it was parsed by the same rules
				}
			})
			t.format, t.timeout = s.Globals.Output, lockTimeout
			under(inside, c)
			c.Run(c, args)
			if t.code != cli.ExitOK {
				return cli.Fail(t.code, nil)
			}
			return nil
		}}
	}
	hash := verb("", (*tool).hashKVCommand)
	hash.Group = cli.GroupMaintenance
	return []cli.Verb{hash, {Use: "snapshot", Group: cli.GroupMaintenance, Verbs: []cli.Verb{verb("snapshot", (*tool).restoreCommand), verb("snapshot", (*tool).statusCommand)}}}
}

// under gives a command its full name.
func under(inside string, c *cobra.Command) {
	parent := &cobra.Command{Use: "quorate"}
	if inside != "" {
		outer := parent
		parent = &cobra.Command{Use: inside}
		outer.AddCommand(parent)
	}
	parent.AddCommand(c)
}

// lockTimeout is how long a file is waited for that another process has open.
const lockTimeout = 10 * time.Second

func newTool(p cli.Process, own bool) *tool {
	if p.Context == nil {
		p.Context = context.Background()
	}
	if p.Args == nil {
		p.Args = []string{}
	}
	return &tool{process: p, own: own, clock: clock.Real()}
}

func (t *tool) globals(f *pflag.FlagSet) {
	f.DurationVar(&t.timeout, "timeout", lockTimeout, "time to wait to obtain a file lock on db file, 0 to block indefinitely")
	f.StringVarP(&t.format, "write-out", "w", "simple", "set the output format (fields, json, protobuf, simple, table)")
}

func completeFormats(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return []string{"fields", "json", "protobuf", "simple", "table"}, cobra.ShellCompDirectiveDefault
}

// execute runs the command line on root. Help goes to stdout, everything else that cobra says to stderr.
func (t *tool) execute(root *cobra.Command) int {
	root.SetArgs(t.process.Args)
	root.SetErr(t.process.Stderr)
	root.SetOut(t.process.Stderr)
	if len(t.process.Args) > 0 && strings.HasPrefix(t.process.Args[0], "__complete") {
		root.SetOut(t.process.Stdout)
	}
	if !t.own {
		root.SetHelpTemplate(`{{.UsageString}}`)
	}
	help := root.HelpFunc()
	root.SetHelpFunc(func(c *cobra.Command, args []string) {
		root.SetOut(t.process.Stdout)
		defer root.SetOut(t.process.Stderr)
		help(c, args)
	})
	c, err := root.ExecuteContextC(t.process.Context)
	if err == nil {
		return t.code
	}
	if t.own {
		fmt.Fprintf(t.process.Stderr, "%s: %v\nRun \"%s --help\" for its flags.\n", c.CommandPath(), err, c.CommandPath())
		return cli.ExitError
	}
	fmt.Fprintln(t.process.Stderr, "Error:", err) // once more, as etcdutl does
	return cli.ExitError
}

// verb makes the body of a command; its error becomes the exit code and is shown as etcdutl shows it, or with what to do.
func (t *tool) verb(run func(ctx context.Context, args []string) error) func(*cobra.Command, []string) {
	return func(c *cobra.Command, args []string) {
		err := run(t.process.Context, args)
		if err == nil {
			return
		}
		if t.process.Context.Err() != nil && errors.Is(err, context.Cause(t.process.Context)) {
			t.code = interruptCode(err)
			if t.own {
				fmt.Fprintf(t.process.Stderr, "%s: stopped; nothing was left behind\n", c.CommandPath())
			}
			return
		}
		t.code = cli.ExitError
		var f *cli.Failure
		if errors.As(err, &f) {
			t.code = f.Code
		}
		if t.own {
			t.explain(c, err)
			return
		}
		fmt.Fprintln(t.process.Stderr, "Error:", err)
	}
}

// interruptCode is the exit code of a program that a signal stopped, as shells have it.
func interruptCode(err error) int {
	var i cli.Interrupt
	if errors.As(err, &i) {
		if s, ok := i.Signal.(syscall.Signal); ok {
			return 128 + int(s)
		}
	}
	return 128 + int(syscall.SIGINT)
}

// printer is that of --write-out.
func (t *tool) printer() (*render.Printer, error) {
	p, ok := render.New(t.format, false, t.process.Stdout, t.process.Stderr)
	if !ok {
		return nil, cli.Failf(cli.ExitBadFeature, "unsupported output format")
	}
	if t.own && cli.OnTerminal(t.process.Stdout) {
		p.Pretty, p.Color = true, t.process.Colored(t.process.Stdout)
	}
	return p, nil
}

// show prints a result.
func show(p *render.Printer, r render.Result) error {
	err := p.Print(r)
	var unsupported *render.UnsupportedError
	if errors.As(err, &unsupported) {
		return cli.Fail(cli.ExitBadFeature, err)
	}
	return err
}

func (t *tool) versionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Prints the version of etcdutl", Run: func(*cobra.Command, []string) {
		fmt.Fprintf(t.process.Stdout, "etcdutl version: %s\nAPI version: %s\n", etcdVersion, apiVersion)
	}}
}

func (t *tool) completionCommand() *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{Use: "completion [bash|zsh|fish|powershell]", Short: "Generate completion script", DisableFlagsInUseLine: true,
		ValidArgs: shells, Args: cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		RunE: func(c *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return c.Root().GenBashCompletion(t.process.Stdout)
			case "zsh":
				return c.Root().GenZshCompletion(t.process.Stdout)
			case "fish":
				return c.Root().GenFishCompletion(t.process.Stdout, true)
			}
			return c.Root().GenPowerShellCompletionWithDesc(t.process.Stdout)
		}}
}
