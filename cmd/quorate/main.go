// Command quorate is the whole product in one program: "quorate" and "quorate serve" start the server, "quorate version"
// prints versions, "quorate config" prints, makes and checks config files. Called by the name etcd it takes etcd's command lines
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
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"quorate.dev/quorate/cli"
	"quorate.dev/quorate/cli/kube"
	"quorate.dev/quorate/cli/migrating"
	"quorate.dev/quorate/cli/offline"
	"quorate.dev/quorate/cli/ops"
	"quorate.dev/quorate/cli/transferring"
	"quorate.dev/quorate/config"
	"quorate.dev/quorate/server"
)

func main() {
	program := strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe")
	switch program {
	case "etcd":
		os.Exit(asEtcd(os.Args[1:]))
	case "etcdctl":
		os.Exit(asClient(os.Args[1:], cli.Main))
	case "etcdutl":
		os.Exit(asClient(os.Args[1:], offline.Main))
	}
	os.Exit(asQuorate(os.Args[1:]))
}

// asEtcd is the server, but for etcd's two verbs.
func asEtcd(args []string) int {
	if len(args) > 0 && args[0] == "grpc-proxy" {
		return asProxy(args[1:])
	}
	if len(args) > 0 && args[0] == "gateway" {
		return etcdGateway(args)
	}
	return serve("etcd", args)
}

func asQuorate(args []string) int {
	help := len(args) == 1 && (args[0] == "-h" || args[0] == "--help")
	if len(args) == 0 || (strings.HasPrefix(args[0], "-") && !help && !cli.IsGlobalFlag(args[0])) {
		return serve("quorate", args)
	}
	if !help && args[0] == "etcdctl" {
		return asClient(args[1:], cli.Main)
	}
	if !help && args[0] == "etcdutl" {
		return asClient(args[1:], offline.Main)
	}
	if offline.Own(args) {
		return asClient(args, offline.Run)
	}
	code := 0
	root := &cobra.Command{
		Use:   "quorate",
		Short: "A consistent, replicated key-value store that speaks the etcd v3 API",
		Long: `Quorate is a consistent, replicated key-value store that speaks the etcd v3 API.

Without a verb it starts the server, and no flag is needed. "quorate serve --help" lists the flags; they are etcd's.`,
	}
	root.AddCommand(
		&cobra.Command{Use: "serve [flags]", Short: "Start the server (the default)", DisableFlagParsing: true,
			Run: func(_ *cobra.Command, args []string) { code = serve("quorate", args) }},
		&cobra.Command{Use: "version", Short: "Print versions", Args: cobra.NoArgs,
			Run: func(*cobra.Command, []string) { fmt.Print(server.VersionText("quorate")) }},
		configCommand(&code), probeCommand(&code),
		benchCommand(&code),
		upCommand(&code),
		gatewayCommand(&code),
		healCommand(&code),
		proxyCommand(&code), grpcProxyCommand(&code),
	)
	for _, c := range root.Commands() {
		c.GroupID = cli.GroupServer
		if !help && c.Name() != args[0] && strings.HasPrefix(c.Name(), args[0]) { // the beginning of a client's verb will do; no server starts by a slip
			fmt.Fprintf(os.Stderr, "quorate: unknown command %q for \"quorate\"; did you mean %s?\nRun \"quorate --help\" for the verbs.\n", args[0], c.Name())
			return 2
		}
	}
	if c := asClient(args, func(p cli.Process) int {
		p.Decode = kube.Decode
		return cli.Own(p, root, slices.Concat(ops.Verbs(), offline.Verbs(), migrating.Verbs(), transferring.Verbs())...)
	}); c != 0 {
		return c
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
