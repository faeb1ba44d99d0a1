package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"

	"quorate.dev/quorate/cli/render"
)

var (
	errWatchArgs      = errors.New("bad number of arguments")
	errWatchConflict  = errors.New("bad number of arguments (found conflicting environment key)")
	errWatchSeparator = errors.New("bad number of arguments (found separator --, but no commands)")
)

// watchFlags say what to watch and how.
type watchFlags struct {
	interactive, prefix, prevKV, progress bool
	rev                                   int64
}

func (f *watchFlags) register(fs *pflag.FlagSet) {
	fs.BoolVarP(&f.interactive, "interactive", "i", false, "Interactive mode")
	fs.BoolVar(&f.prefix, "prefix", false, "Watch on a prefix if prefix is set")
	fs.Int64Var(&f.rev, "rev", 0, "Revision to start watching")
	fs.BoolVar(&f.prevKV, "prev-kv", false, "get the previous key-value pair before the event happens")
	fs.BoolVar(&f.progress, "progress-notify", false, "get periodic watch progress notification from server")
}

func watchVerb() Verb {
	f := new(watchFlags)
	return Verb{
		Use:   "watch [options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
		Short: "Watches events stream on keys or prefixes", Group: GroupKV, Flags: f.register, Keys: true,
		Run: func(s *Session, args []string) error {
			key, end := s.Process.Getenv("ETCDCTL_WATCH_KEY"), s.Process.Getenv("ETCDCTL_WATCH_RANGE_END")
			if key == "" && end != "" {
				return Failf(ExitBadArgs, "ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END=%q", end)
			}
			w := &watcher{s: s, key: key, end: end}
			if f.interactive {
				return w.interact()
			}
			return w.watchOnce(f, args)
		},
	}
}

// watcher runs watches. Those of the interactive mode run side by side and share the output.
type watcher struct {
	s        *Session
	key, end string // of the environment
	client   *clientv3.Client
	printing sync.Mutex
}

// watchOnce watches until the server ends it, which is an error.
func (w *watcher) watchOnce(f *watchFlags, args []string) error {
	keys, command, err := w.commandLine(args)
	if err != nil {
		return Fail(ExitBadArgs, err)
	}
	if w.client, err = w.s.Client(); err != nil {
		return err
	}
	ch, err := w.start(f, keys)
	if err != nil {
		return Fail(ExitBadArgs, err)
	}
	if err := w.show(ch, command); err != nil {
		return err
	}
	return Failf(ExitInterrupted, "watch is canceled by the server")
}

// commandLine separates keys from the command behind "--". The separator itself is no longer among args, so it is looked for
// where the shell put it.
func (w *watcher) commandLine(args []string) (keys, command []string, err error) {
	raw := w.s.Process.Args
	if i := slices.Index(raw, "watch"); i >= 0 {
		raw = raw[i+1:]
	}
	sep := slices.Index(raw, "--")
	switch {
	case sep >= 0 && sep == len(raw)-1:
		return nil, nil, errWatchSeparator
	case sep < 0 && len(raw) == 0 && w.key == "":
		return nil, nil, errWatchArgs
	case sep >= 0:
		command = raw[sep+1:]
	}
	return w.keys(args, command)
}

// keys are what is left of args without the command at their end; with the environment's key there must be none.
func (w *watcher) keys(args, command []string) (_, _ []string, err error) {
	keys := args[:max(0, len(args)-len(command))]
	if w.key == "" {
		return keys, command, nil
	}
	if len(keys) > 0 {
		return nil, nil, errWatchConflict
	}
	if w.end != "" {
		return []string{w.key, w.end}, command, nil
	}
	return []string{w.key}, command, nil
}

// line reads one request of the interactive mode, whose words include the separator.
func (w *watcher) line(args []string) (f *watchFlags, keys, command []string, err error) {
	sep := slices.Index(args, "--")
	if sep >= 0 && sep == len(args)-1 {
		return nil, nil, nil, errWatchSeparator
	}
	f = new(watchFlags)
	fs := pflag.NewFlagSet("watch", pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	f.register(fs)
	if err := fs.Parse(args); err != nil {
		return nil, nil, nil, err
	}
	if sep >= 0 {
		command = args[sep+1:]
	} else if w.key == "" && fs.NArg() == 0 {
		return nil, nil, nil, errWatchArgs
	}
	keys, command, err = w.keys(fs.Args(), command)
	return f, keys, command, err
}

// interact reads requests from stdin until it ends.
func (w *watcher) interact() (err error) {
	if w.client, err = w.s.Client(); err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(w.s.Process.Context)
	defer stop(nil)
	lines := bufio.NewReader(patientReader{ctx, w.s.Process.Stdin})
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			var f *Failure
			if errors.As(context.Cause(ctx), &f) {
				return f
			}
			return Failf(ExitInvalidInput, "error reading watch request line: %w", err)
		}
		if err := w.request(strings.TrimSuffix(line, "\n"), stop); err != nil {
			return err
		}
	}
}

// request serves one line. Mistakes are remarked, except where etcdctl gives up.
func (w *watcher) request(line string, stop context.CancelCauseFunc) error {
	args, err := splitWords(line)
	switch {
	case err != nil:
		return err
	case len(args) == 0:
		w.s.Warnf("Invalid command: %s (watch and progress supported)\n", line)
		return nil
	case args[0] == "progress":
		return w.client.RequestProgress(clientv3.WithRequireLeader(w.s.Context))
	case args[0] != "watch":
		w.s.Warnf("Invalid command %s (only support watch)\n", line)
		return nil
	case len(args) < 2 && w.key == "":
		w.s.Warnf("Invalid command %s (command type or key is not provided)\n", line)
		return nil
	}
	f, keys, command, err := w.line(args[1:])
	if err != nil {
		return Fail(ExitBadArgs, err)
	}
	ch, err := w.start(f, keys)
	if err != nil {
		w.s.Warnf("Invalid command %s (%v)\n", line, err)
		return nil
	}
	go func() {
		if err := w.show(ch, command); err != nil {
			stop(err)
		}
	}()
	return nil
}

func (w *watcher) start(f *watchFlags, keys []string) (clientv3.WatchChan, error) {
	if len(keys) < 1 {
		return nil, errWatchArgs
	}
	opts := []clientv3.OpOption{clientv3.WithRev(f.rev)}
	if len(keys) == 2 {
		if f.prefix {
			return nil, errors.New("`range_end` and `--prefix` are mutually exclusive")
		}
		opts = append(opts, clientv3.WithRange(keys[1]))
	}
	if f.prefix {
		opts = append(opts, clientv3.WithPrefix())
	}
	if f.prevKV {
		opts = append(opts, clientv3.WithPrevKV())
	}
	if f.progress {
		opts = append(opts, clientv3.WithProgressNotify())
	}
	return w.client.Watch(clientv3.WithRequireLeader(w.s.Context), keys[0], opts...), nil
}

// show prints what a watch finds until it ends, and runs the command for every event.
func (w *watcher) show(ch clientv3.WatchChan, command []string) error {
	for resp := range ch {
		if err := w.print(&resp); err != nil {
			return err
		}
		if len(command) == 0 {
			continue
		}
		for _, e := range resp.Events {
			err := w.run(command, resp.Header.GetRevision(), e)
			if w.s.Context.Err() != nil {
				return nil // the command was stopped because we are
			}
			if err != nil {
				w.s.Warnf("command %q error (%v)\n", command, err)
				return Fail(ExitError, nil)
			}
		}
	}
	return nil
}

func (w *watcher) print(resp *clientv3.WatchResponse) error {
	w.printing.Lock()
	defer w.printing.Unlock()
	if resp.Canceled {
		if w.s.Context.Err() != nil {
			return nil // it was us
		}
		w.s.Warnf("watch was canceled (%v)\n", resp.Err())
	}
	if resp.IsProgressNotify() {
		w.s.Printf("progress notify: %d\n", resp.Header.GetRevision())
	}
	return w.s.Print(render.Watch(resp))
}

func (w *watcher) run(command []string, rev int64, e *clientv3.Event) error {
	c := exec.CommandContext(w.client.Ctx(), command[0], command[1:]...)
	c.Env = w.s.environ(
		fmt.Sprintf("ETCD_WATCH_REVISION=%d", rev),
		fmt.Sprintf("ETCD_WATCH_EVENT_TYPE=%q", e.GetType()),
		fmt.Sprintf("ETCD_WATCH_KEY=%q", e.GetKv().GetKey()),
		fmt.Sprintf("ETCD_WATCH_VALUE=%q", e.GetKv().GetValue()))
	c.Stdout, c.Stderr = w.s.Process.Stdout, w.s.Process.Stderr
	return c.Run()
}
