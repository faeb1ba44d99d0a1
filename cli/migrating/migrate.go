package migrating

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"quorate.dev/quorate/cli"
	"quorate.dev/quorate/cli/offline"
	"quorate.dev/quorate/migrate"
	"quorate.dev/quorate/restore"
)

// Verbs are migrate and what is inside it.
func Verbs() []cli.Verb {
	f := &flags{cluster: offline.Defaults()}
	return []cli.Verb{{
		Use: "migrate --data-dir DIR (--to DIR | --to-snapshot FILE | --in-place | --dry-run)", Group: cli.GroupMaintenance, Interrupts: true,
		Short: "Turns the keys of etcd's v2 API into keys of the v3 API",
		Long: `Turns the keys that a stopped member of etcd 2.0 to 3.4 has under the v2 API into keys of the v3 API, as etcdctl's migrate does:
key, value, createdIndex and modifiedIndex become key, value, create_revision and mod_revision. Directories and hidden keys are left
out, keys with a TTL become permanent; --ttl and --transformer change that. The source is not changed, unless --in-place says so.
What was written is read back and compared with the source before it appears in its place.

A transformer is a program. It reads nodes from stdin, JSON objects with nothing between them:
  {"key":"/a/b","value":"x","modifiedIndex":7,"createdIndex":7}     {"key":"/a","dir":true,"modifiedIndex":7,"createdIndex":7}
and writes mvccpb.KeyValue messages to stdout, each behind its length (8 bytes, little-endian), every key and mod_revision once.`,
		Example: `  quorate migrate check --endpoints http://10.0.0.1:2379
  quorate migrate --data-dir /var/lib/etcd --dry-run
  quorate migrate --data-dir /var/lib/etcd --to /var/lib/quorate --name m1 --ttl lease
  quorate migrate --data-dir /var/lib/etcd --to-snapshot v2.db --transformer ./transform`,
		Flags:    f.register,
		Complete: map[string][]string{"ttl": {"permanent", "drop", "lease"}},
		Run:      f.run,
		Verbs:    []cli.Verb{checkVerb()},
	}}
}

// flags are the command line of migrate.
type flags struct {
	dir, logDir, transformer string
	patience                 time.Duration
	ttl                      string
	noTTL                    bool
	skipClash, keep          bool
	to, toLog, snapshot      string
	inPlace, dry             bool
	cluster                  offline.NewCluster
}

func (f *flags) register(fs *pflag.FlagSet) {
	fs.SortFlags = false
	fs.StringVar(&f.dir, "data-dir", "", "data directory of the stopped member of etcd")
	fs.StringVar(&f.logDir, "wal-dir", "", "where its log lies (default member/wal in --data-dir)")
	fs.StringVar(&f.to, "to", "", "make this data directory of Quorate; it must not exist, or be empty")
	fs.StringVar(&f.snapshot, "to-snapshot", "", "make this file in etcd's snapshot format, for \"quorate snapshot restore\" or etcd's own restore")
	fs.BoolVar(&f.inPlace, "in-place", false, "write into the source's member/snap/db, as etcdctl does, for an etcd 3.0 to 3.4 that goes on with it")
	fs.BoolVar(&f.dry, "dry-run", false, "write nothing and report")
	fs.StringVar(&f.transformer, "transformer", "", "program that makes keys of nodes, in place of the default")
	fs.DurationVar(&f.patience, "transformer-timeout", migrate.DefaultPatience, "how long the transformer may neither read nor write before it is killed")
	fs.StringVar(&f.ttl, "ttl", "permanent", "keys with a TTL, or in a directory with one: permanent (as etcd), drop (those with a TTL of their own), or lease (with the time that is left)")
	fs.BoolVar(&f.noTTL, "no-ttl", false, "the same as --ttl=drop")
	fs.BoolVar(&f.skipClash, "skip-clashes", false, "leave out a key that a transformer makes twice, or whose mod_revision another key has, in place of failing")
	fs.BoolVar(&f.keep, "keep-v3", false, "go on though the source has keys of the v3 API as well, which stay where they are")
	fs.StringVar(&f.cluster.Name, "name", f.cluster.Name, "with --to: name of the new member")
	fs.StringVar(&f.cluster.Cluster, "initial-cluster", "", "with --to: members of the new cluster (default this one alone)")
	fs.StringVar(&f.cluster.Token, "initial-cluster-token", f.cluster.Token, "with --to: token of the new cluster")
	fs.StringVar(&f.cluster.PeerURLs, "initial-advertise-peer-urls", f.cluster.PeerURLs, "with --to: peer URLs of the new member")
	fs.StringVar(&f.toLog, "to-wal-dir", "", "with --to: where the log of the new member lies (default wal in --to)")
}

// options checks the command line.
func (f *flags) options(ctx context.Context, fs *pflag.FlagSet) (o migrate.Options, err error) {
	o = migrate.Options{DataDir: f.dir, LogDir: f.logDir, Transformer: f.transformer, Patience: f.patience, SkipClash: f.skipClash, KeepOthers: f.keep}
	if f.dir == "" {
		return o, errors.New("name the data directory of a stopped member of etcd with --data-dir")
	}
	if f.patience <= 0 {
		return o, fmt.Errorf("--transformer-timeout is %s; it has to be above 0", f.patience)
	}
	if o.TTL, err = migrate.ParseTTL(f.ttl); err != nil {
		return o, fmt.Errorf("--ttl is %q; it has to be permanent, drop or lease", f.ttl)
	}
	if f.noTTL {
		if fs.Changed("ttl") && o.TTL != migrate.Drop {
			return o, fmt.Errorf("--no-ttl means --ttl=drop, and --ttl is %s", f.ttl)
		}
		o.TTL = migrate.Drop
	}
	o.Target, err = f.target(ctx, fs)
	return o, err
}

// target is what the command line says of the destination.
func (f *flags) target(ctx context.Context, fs *pflag.FlagSet) (t migrate.Target, err error) {
	named := 0
	for _, given := range []bool{f.to != "", f.snapshot != "", f.inPlace, f.dry} {
		if given {
			named++
		}
	}
	if named != 1 {
		return t, errors.New("say where the keys should go, with one of: --to DIR (a new data directory of Quorate), --to-snapshot FILE (etcd's snapshot format), --in-place (the source's own db file, as etcdctl does); or --dry-run, which writes nothing")
	}
	if f.to == "" {
		for _, name := range []string{"name", "initial-cluster", "initial-cluster-token", "initial-advertise-peer-urls", "to-wal-dir"} {
			if fs.Changed(name) {
				return t, fmt.Errorf("--%s is about a new data directory and needs --to", name)
			}
		}
	}
	switch {
	case f.to != "":
		t = migrate.Target{Kind: migrate.DataDir, Path: f.to, LogDir: f.toLog}
		t.Self, t.Members, err = f.cluster.Members(ctx)
	case f.snapshot != "":
		t = migrate.Target{Kind: migrate.Snapshot, Path: f.snapshot}
	case f.inPlace:
		t = migrate.Target{Kind: migrate.InPlace}
	}
	return t, err
}

func (f *flags) run(s *cli.Session, args []string) error {
	if len(args) > 0 {
		return cli.Failf(cli.ExitUsage, "it takes no arguments, and got %q; the only verb in it is check", args)
	}
	asJSON, err := format(s)
	if err != nil {
		return err
	}
	ctx := s.Process.Context
	o, err := f.options(ctx, s.Flags)
	if err != nil {
		return cli.Fail(cli.ExitUsage, err)
	}
	lines := s.Process.Stdout
	if asJSON {
		lines = s.Process.Stderr
	}
	show := &shower{s: s}
	o.Stderr, o.Clock, o.Progress = s.Process.Stderr, s.Clock(), show.progress
	o.Say = func(line string) {
		show.end()
		fmt.Fprintln(lines, line)
	}
	r, err := migrate.Run(ctx, o)
	show.end()
	switch {
	case err != nil && ctx.Err() != nil && errors.Is(err, context.Cause(ctx)):
		s.Warnf("stopped; nothing was left behind\n")
		return cli.Fail(stopCode(err), nil)
	case err != nil:
		return advised(err)
	case asJSON:
		return writeJSON(s.Process.Stdout, r)
	}
	f.print(s.Process.Stdout, r)
	return nil
}

// format says whether JSON was asked for.
func format(s *cli.Session) (asJSON bool, err error) {
	switch s.Globals.Output {
	case "json":
		return true, nil
	case "simple":
		return false, nil
	}
	return false, cli.Failf(cli.ExitBadFeature, "output format %q: this verb has simple (for people) and json", s.Globals.Output)
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// stopCode is the exit code of a program that a signal stopped, as shells have it.
func stopCode(err error) int {
	var i cli.Interrupt
	if errors.As(err, &i) {
		if s, ok := i.Signal.(syscall.Signal); ok {
			return 128 + int(s)
		}
	}
	return 128 + int(syscall.SIGINT)
}

// failure is an error with what to do about it.
type failure struct {
	err error
	do  string
}

// Error leaves out the name of the package: the verb has the same.
func (f *failure) Error() string {
	text := strings.TrimPrefix(f.err.Error(), "migrate: ")
	if f.do != "" {
		text += "\n  " + f.do
	}
	return text
}

func (f *failure) Unwrap() error { return f.err }

// advised adds to an error what to do about it.
func advised(err error) error {
	var refused *migrate.RefusedError
	var occupied *migrate.OccupiedError
	f := &failure{err: err}
	switch {
	case errors.As(err, &refused):
		f.do = refused.Do
	case errors.As(err, &occupied), errors.Is(err, restore.ErrOccupied):
		f.do = "a migration never writes over anything: name another place, or move that one away"
	}
	return f
}

// shower shows progress on a terminal.
type shower struct {
	s     *cli.Session
	stage migrate.Stage
	bar   *cli.Bar
}

func (b *shower) progress(p migrate.Progress) {
	if b.bar == nil || p.Stage != b.stage || p.Done == 0 {
		b.end()
		unit := map[migrate.Stage]string{migrate.Reading: "entries", migrate.Transforming: "nodes"}[p.Stage]
		if unit == "" {
			unit = "keys"
		}
		b.stage, b.bar = p.Stage, b.s.Bar(p.Stage.String(), unit, p.Total)
	}
	b.bar.To(p.Done)
}

func (b *shower) end() {
	b.bar.End()
	b.bar = nil
}
