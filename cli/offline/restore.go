package offline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"quorate.dev/quorate/cli"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/restore"
)

// Defaults of etcdutl.
const (
	defaultName     = "default"
	defaultPeerURLs = "http://localhost:2380"
	defaultMmap     = 10 << 30 // bytes
)

// restoreFlags are those of "snapshot restore".
type restoreFlags struct {
	cluster, token, peerURLs, name string
	dataDir, walDir                string
	skipCheck                      bool
	mmap                           uint64 // of no use here
	bump                           uint64
	markCompacted                  bool
}

func (t *tool) snapshotCommand() *cobra.Command {
	c := &cobra.Command{Use: "snapshot <subcommand>", Short: "Manages etcd node snapshots"}
	c.AddCommand(t.restoreCommand(), t.statusCommand())
	return c
}

func (t *tool) restoreCommand() *cobra.Command {
	f := new(restoreFlags)
	c := &cobra.Command{Use: "restore <filename> --data-dir {output dir} [options]", Short: "Restores an etcd member snapshot to an etcd directory"}
	cluster := "Initial cluster configuration for restore bootstrap"
	clusterDefault := defaultName + "=" + defaultPeerURLs
	if t.own {
		c.Short = "Restores a snapshot of Quorate or etcd to a data directory of Quorate"
		cluster, clusterDefault = cluster+` (default what --name and --initial-advertise-peer-urls say)`, ""
	}
	c.Flags().StringVar(&f.dataDir, "data-dir", "", "Path to the output data directory")
	c.Flags().StringVar(&f.walDir, "wal-dir", "", "Path to the WAL directory (use --data-dir if none given)")
	c.Flags().StringVar(&f.cluster, "initial-cluster", clusterDefault, cluster)
	c.Flags().StringVar(&f.token, "initial-cluster-token", "etcd-cluster", "Initial cluster token for the etcd cluster during restore bootstrap")
	c.Flags().StringVar(&f.peerURLs, "initial-advertise-peer-urls", defaultPeerURLs, "List of this member's peer URLs to advertise to the rest of the cluster")
	c.Flags().StringVar(&f.name, "name", defaultName, "Human-readable name for this member")
	c.Flags().BoolVar(&f.skipCheck, "skip-hash-check", false, "Ignore snapshot integrity hash value (required if copied from data directory)")
	c.Flags().Uint64Var(&f.mmap, "initial-memory-map-size", defaultMmap, "Initial memory map size of the database in bytes. It uses the default value if not defined or defined to 0")
	c.Flags().Uint64Var(&f.bump, "bump-revision", 0, "How much to increase the latest revision after restore")
	c.Flags().BoolVar(&f.markCompacted, "mark-compacted", false, "Mark the latest revision after restore as the point of scheduled compaction (required if --bump-revision > 0, disallowed otherwise)")
	if t.own {
		_ = c.Flags().MarkHidden("initial-memory-map-size")
	}
	_ = c.MarkFlagDirname("data-dir")
	_ = c.MarkFlagDirname("wal-dir")
	c.Run = t.verb(func(ctx context.Context, args []string) error { return t.restore(ctx, f, args) })
	return c
}

func (t *tool) restore(ctx context.Context, f *restoreFlags, args []string) error {
	if len(args) != 1 {
		return cli.Failf(cli.ExitBadArgs, "snapshot restore requires exactly one argument")
	}
	if (f.bump > 0) != f.markCompacted || f.bump > math.MaxInt64 {
		return cli.Failf(cli.ExitBadArgs, "--mark-compacted required if --revision-bump > 0")
	}
	t.complete(f)
	lg := t.logger()
	who, err := t.founders(ctx, f, lg)
	if err != nil {
		return err
	}
	run := &restoring{tool: t, flags: f, who: who, lg: lg, file: args[0]}
	o := restore.Options{
		File: args[0], DataDir: filepath.Clean(f.dataDir), LogDir: f.walDir, Self: who.self, Members: who.members,
		SkipChecksum: f.skipCheck, Bump: ids.Revision(f.bump), Progress: run.progress,
	}
	r, err := restore.New(o)
	if err != nil {
		return err
	}
	return run.run(ctx, r)
}

// complete fills in what was not given.
func (t *tool) complete(f *restoreFlags) {
	if f.cluster == "" && t.own {
		f.cluster = f.name + "=" + strings.ReplaceAll(f.peerURLs, ",", ","+f.name+"=")
	}
	if f.dataDir == "" {
		f.dataDir = f.name + ".etcd"
		if t.own {
			f.dataDir = f.name + ".quorate"
		}
	}
}

// restoring is one restore with what is shown of it.
type restoring struct {
	tool  *tool
	flags *restoreFlags
	who   *founders
	lg    *zap.Logger
	file  string
	bar   *progress
}

func (r *restoring) run(ctx context.Context, job *restore.Restore) error {
	r.announce("restoring snapshot")
	start := r.tool.clock.Now()
	file, err := r.tool.openFile(ctx, r.file)
	if err != nil {
		return err
	}
	if r.tool.own {
		r.bar = r.tool.newProgress()
	}
	result, err := job.Run(ctx, file.File)
	r.bar.end()
	if closing := file.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return r.tool.bare(err)
	}
	r.announce("restored snapshot")
	if r.tool.own {
		r.summary(result, r.tool.clock.Now().Sub(start))
	}
	return nil
}

// bare is the system's error alone when a file or directory could not be made, as etcdutl shows it.
func (t *tool) bare(err error) error {
	var system *fs.PathError
	if !t.own && errors.As(err, &system) {
		return system
	}
	return err
}

// announce writes the first and the last line of etcdutl's log.
func (r *restoring) announce(what string) {
	wal := r.flags.walDir
	if wal == "" {
		wal = filepath.Join(r.flags.dataDir, restore.LogName)
	}
	r.lg.Info(what, zap.String("path", r.file), zap.String("wal-dir", wal), zap.String("data-dir", r.flags.dataDir),
		zap.String("snap-dir", filepath.Join(r.flags.dataDir, restore.StoreName)), zap.Uint64("initial-memory-map-size", r.flags.mmap))
}

// progress shows how far it is, as a bar or as the lines of etcdutl's log.
func (r *restoring) progress(p restore.Progress) {
	if r.bar != nil {
		r.bar.show(p.Stage.String(), p.Done, p.Total)
		return
	}
	switch {
	case p.Done > 0:
	case p.Stage == restore.Loading:
		r.lg.Info("Trimming membership information from the backend...")
	case p.Stage == restore.Verifying:
		if r.flags.bump > 0 {
			at := int64(p.Newest) + int64(r.flags.bump)
			r.lg.Info("bumping latest revision", zap.Int64("latest-revision", int64(p.Newest)), zap.Int64("bump-amount", int64(r.flags.bump)), zap.Int64("new-latest-revision", at))
			r.lg.Info("marking revision compacted", zap.Int64("revision", at))
		}
	case p.Stage == restore.Finishing:
		for _, m := range r.who.members {
			r.lg.Info("added member", zap.String("cluster-id", r.who.cluster().String()), zap.String("local-member-id", "0"),
				zap.String("added-peer-id", m.ID.String()), zap.Strings("added-peer-peer-urls", m.PeerURLs), zap.Bool("added-peer-is-learner", false))
		}
	}
}

// summary tells a person what is there now and what comes next.
func (r *restoring) summary(result *restore.Result, took time.Duration) {
	w := r.tool.process.Stdout
	fmt.Fprintf(w, "restored %s records (%s) up to revision %d into %s in %s\n", humanize.Comma(result.Records), humanize.Bytes(uint64(result.Bytes)),
		result.Revision, r.flags.dataDir, took.Round(10*time.Millisecond))
	fmt.Fprintf(w, "cluster %s, member %s (%s), %d member(s)\n", result.Cluster, r.who.self, r.flags.name, len(r.who.members))
	wal := ""
	if r.flags.walDir != "" {
		wal = " --wal-dir " + r.flags.walDir
	}
	if len(r.who.members) > 1 {
		fmt.Fprintln(w, "next: restore the same file for every other member, then start them all, each with its own flags:")
	} else {
		fmt.Fprintln(w, "next:")
	}
	fmt.Fprintf(w, "  quorate serve --name %s --data-dir %s%s\n", r.flags.name, r.flags.dataDir, wal)
}
