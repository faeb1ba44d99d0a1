// Command quorate is the whole product in one program: "quorate" and "quorate serve" start the server, "quorate version"
// prints versions, "quorate config" prints a configuration as a file. Called by the name etcd it takes etcd's command lines
// and prints what etcd prints.
//
// It is not where anything happens: it looks at its name and verb, and passes arguments on to package server.
//
// Invariants: exit codes are 0 for success, 1 for a failure, 2 for a command line that cannot be understood; everything
// that begins with a dash belongs to the server, so that etcd's command lines work without a verb.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"quorate.dev/quorate/config"
	"quorate.dev/quorate/server"
)

func main() {
	program := strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe")
	if program == "etcd" {
		os.Exit(asEtcd(os.Args[1:]))
	}
	os.Exit(asQuorate(os.Args[1:]))
}

// asEtcd has no verbs of its own; etcd's two are named so that nobody takes them for a mistyped flag.
func asEtcd(args []string) int {
	if len(args) > 0 && (args[0] == "gateway" || args[0] == "grpc-proxy") {
		fmt.Fprintf(os.Stderr, "etcd %s: this program does not have a proxy yet; connect clients to the members directly\n", args[0])
		return 1
	}
	return serve("etcd", args)
}

func asQuorate(args []string) int {
	help := len(args) == 1 && (args[0] == "-h" || args[0] == "--help")
	if len(args) == 0 || (strings.HasPrefix(args[0], "-") && !help) {
		return serve("quorate", args)
	}
	code := 0
	root := &cobra.Command{
		Use:   "quorate",
		Short: "A consistent, replicated key-value store that speaks the etcd v3 API",
		Long: `Quorate is a consistent, replicated key-value store that speaks the etcd v3 API.

Without a verb it starts the server, and no flag is needed. "quorate serve --help" lists the flags; they are etcd's.`,
		SilenceErrors: true, SilenceUsage: true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(
		&cobra.Command{Use: "serve [flags]", Short: "Start the server (the default)", DisableFlagParsing: true,
			Run: func(_ *cobra.Command, args []string) { code = serve("quorate", args) }},
		&cobra.Command{Use: "version", Short: "Print versions", Args: cobra.NoArgs,
			Run: func(*cobra.Command, []string) { fmt.Print(server.VersionText("quorate")) }},
		&cobra.Command{Use: "config [flags]", Short: "Print the settings that these flags make, as a config file", DisableFlagParsing: true,
			Run: func(_ *cobra.Command, args []string) { code = printConfig(args) }},
		benchCommand(&code),
		upCommand(&code),
		healCommand(&code),
	)
	root.SetArgs(args)
	if err := root.Execute(); err != nil {
		fmt.Fprintf(os.Stderr, "quorate: %v\nRun \"quorate --help\" for the verbs.\n", err)
		return 2
	}
	return code
}

func serve(program string, args []string) int {
	signal.Ignore(syscall.SIGXFSZ) // a write over the file size limit shall fail like one to a full disk
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	return server.Run(server.Process{Program: program, Args: args, Env: os.Environ(), Stdout: os.Stdout, Stderr: os.Stderr, Signals: signals})
}

// printConfig shows what a command line means, all settings included.
func printConfig(args []string) int {
	loaded, err := config.Load(config.Source{Program: "quorate", Args: args, Env: os.Environ(), ReadFile: os.ReadFile})
	for _, n := range loaded.Notes {
		if n.Warn {
			fmt.Fprintf(os.Stderr, "# %s %v\n", n.Message, n.Fields)
		}
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "quorate config: %v\n", err)
		return 1
	}
	if loaded.Config != nil {
		fmt.Print(loaded.Config.Dump(true))
	}
	return 0
}
