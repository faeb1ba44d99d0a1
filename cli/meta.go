package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.etcd.io/etcd/api/v3/version"
)

// wait lets time pass, unless the session is asked to stop.
func (s *Session) wait(d time.Duration) error {
	timer := s.Clock().NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-s.Process.Context.Done():
		return context.Cause(s.Process.Context)
	}
}

// versionVerb prints the versions of the API's modules, which are what etcdctl's own version means to a script.
func (t *Tool) versionVerb(program string) Verb {
	return Verb{Use: "version", Short: "Prints the version of " + program, Group: GroupUtility, Run: func(s *Session, _ []string) error {
		s.Printf("%s version: %s\nAPI version: %s\n", program, version.Version, version.APIVersion)
		return nil
	}}
}

// optionsVerb shows the global flags, which every other help leaves out.
func (t *Tool) optionsVerb() Verb {
	return Verb{Use: "options", Short: "Show the global command-line flags", Group: GroupUtility, Run: func(s *Session, _ []string) error {
		shown := pflag.NewFlagSet("global", pflag.ContinueOnError)
		t.flags.VisitAll(func(f *pflag.Flag) {
			visible := *f
			visible.Hidden = false
			shown.AddFlag(&visible)
		})
		fmt.Fprint(s.Process.Stdout, "The following options can be passed to any command:\n\n", shown.FlagUsages())
		return nil
	}}
}

// completionVerb prints a script for a shell.
func (t *Tool) completionVerb() Verb {
	return Verb{
		Use: "completion [bash|zsh|fish|powershell]", Short: "Generate completion script", Group: GroupUtility, Long: completionHelp,
		Shape: func(c *cobra.Command) {
			c.DisableFlagsInUseLine = true
			c.ValidArgs = []string{"bash", "zsh", "fish", "powershell"}
			c.Args = cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs)
		},
		Run: func(s *Session, args []string) error {
			root, w := s.cmd.Root(), s.Process.Stdout
			switch args[0] {
			case "bash":
				if s.Own() {
					return root.GenBashCompletionV2(w, true)
				}
				return root.GenBashCompletion(w)
			case "zsh":
				return root.GenZshCompletion(w)
			case "fish":
				return root.GenFishCompletion(w, true)
			}
			return root.GenPowerShellCompletionWithDesc(w)
		},
	}
}

const completionHelp = `To load completions:

Bash:

  $ source <(etcdctl completion bash)

  # To load completions for each session, execute once:
  # Linux:
  $ etcdctl completion bash > /etc/bash_completion.d/etcdctl
  # macOS:
  $ etcdctl completion bash > /usr/local/etc/bash_completion.d/etcdctl

Zsh:

  # If shell completion is not already enabled in your environment,
  # you will need to enable it.  You can execute the following once:

  $ echo "autoload -U compinit; compinit" >> ~/.zshrc

  # To load completions for each session, execute once:
  $ etcdctl completion zsh > "${fpath[1]}/_etcdctl"

  # You will need to start a new shell for this setup to take effect.

fish:

  $ etcdctl completion fish | source

  # To load completions for each session, execute once:
  $ etcdctl completion fish > ~/.config/fish/completions/etcdctl.fish

PowerShell:

  PS> etcdctl completion powershell | Out-String | Invoke-Expression

  # To load completions for every new session, run:
  PS> etcdctl completion powershell > etcdctl.ps1
  # and source this file from your PowerShell profile.
`
