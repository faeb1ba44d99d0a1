package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"quorate.dev/quorate/cli"
)

// asClient runs a client's command line. A program that a signal stopped ends by that signal in the end, as it would have
// without anything to clean up, so that whoever waits for it sees the same.
func asClient(args []string, run func(cli.Process) int) int {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		if s, ok := <-signals; ok {
			signal.Stop(signals) // a second one ends the program at once
			cancel(cli.Interrupt{Signal: s})
		}
	}()
	code := run(cli.Process{Context: ctx, Args: args, Env: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr})
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		if code == 128+int(s) && ctx.Err() != nil {
			signal.Reset(s)
			if syscall.Kill(os.Getpid(), s) == nil {
				select {} // until the signal arrives
			}
		}
	}
	return code
}
