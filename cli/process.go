// Package cli is the command line of a client: every verb of etcdctl, byte for byte as etcdctl 3.7 prints it, and the same
// verbs under our own name, where errors say what to do and a terminal gets colours.
//
// It is not a client library, and it does not look at files of a server (package cli/offline does).
//
// How data passes: a command line is a Process. A Tool is one personality of the program (etcdctl's or ours) with the global
// flags; it turns verbs, which are data, into commands. A verb checks its arguments, asks its Session for a client, calls
// the server and hands what came back to package render as a Result, which knows every output format.
//
// Invariants: nothing here ends the program, reads the environment of the program or touches its standard streams: all of it
// comes in with the Process, so that tests run command lines side by side. Arguments are checked before a connection is made.
// Texts and exit codes under etcdctl's name are etcdctl's, because scripts read them.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"golang.org/x/term"
)

// Process is what a command line runs in.
type Process struct {
	// Context ends when the program is asked to stop; its cause says why (an Interrupt for a signal).
	Context context.Context
	Args    []string // without the name of the program
	Env     []string // NAME=value
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
	// Decode makes readable text of a value whose format it knows; ok is false for others. Our own name's get uses it; nil
	// knows no format.
	Decode func(value []byte) (text string, ok bool, err error)
}

// Interrupt is the cause with which a Process's context ends when a signal asks the program to stop.
type Interrupt struct{ Signal os.Signal }

// Error names the signal.
func (i Interrupt) Error() string { return i.Signal.String() }

// signalBase is added to a signal's number to make an exit code, as shells do.
const signalBase = 128

// interruptCode is the exit code of a program that ctx's end stopped.
func interruptCode(ctx context.Context) int {
	var i Interrupt
	if errors.As(context.Cause(ctx), &i) {
		if s, ok := i.Signal.(syscall.Signal); ok {
			return signalBase + int(s)
		}
	}
	return signalBase + int(syscall.SIGINT)
}

// Getenv returns an environment variable, "" when it is not set.
func (p *Process) Getenv(name string) string {
	for _, e := range p.Env {
		if k, v, ok := strings.Cut(e, "="); ok && k == name {
			return v
		}
	}
	return ""
}

// OnTerminal says whether w is a terminal that a person looks at.
func OnTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Colored says whether what is written to w may be coloured: a terminal, and nobody said otherwise (NO_COLOR, TERM=dumb).
func (p *Process) Colored(w any) bool {
	return OnTerminal(w) && p.Getenv("NO_COLOR") == "" && p.Getenv("TERM") != "dumb"
}

// patientReader reads from r, but gives up when ctx ends: a read of a terminal cannot be interrupted otherwise. The read that
// was under way goes on in the background and takes what comes next; the program is about to end anyway.
type patientReader struct {
	ctx context.Context
	r   io.Reader
}

func (p patientReader) Read(b []byte) (int, error) {
	type result struct {
		n   int
		err error
	}
	if p.ctx.Done() == nil {
		return p.r.Read(b)
	}
	done := make(chan result, 1)
	own := make([]byte, len(b)) // the caller's may be used again before the read ends
	go func() {
		n, err := p.r.Read(own)
		done <- result{n, err}
	}()
	select {
	case got := <-done:
		copy(b, own[:got.n])
		return got.n, got.err
	case <-p.ctx.Done():
		return 0, context.Cause(p.ctx)
	}
}

// Exit codes, as etcdctl's.
const (
	ExitOK            = 0
	ExitError         = 1
	ExitBadConnection = 2 // no client could be made
	ExitInvalidInput  = 3 // what was read from stdin cannot be understood
	ExitBadFeature    = 4 // a valid flag with a value that is not supported
	ExitInterrupted   = 5
	ExitIO            = 6
	ExitBadArgs       = 128
)

// Failure is how a verb ends when it does not succeed.
type Failure struct {
	Code int
	Err  error // nil when everything was said already
}

// Error is the cause's text.
func (f *Failure) Error() string {
	if f.Err == nil {
		return fmt.Sprintf("exit code %d", f.Code)
	}
	return f.Err.Error()
}

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }

// Fail ends a verb with an exit code and an error to show; nil says that everything was said already.
func Fail(code int, err error) error { return &Failure{Code: code, Err: err} }

// Failf ends a verb with an exit code and a text.
func Failf(code int, format string, args ...any) error {
	return &Failure{Code: code, Err: fmt.Errorf(format, args...)}
}
