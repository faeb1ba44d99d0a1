package transferring

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"

	"quorate.dev/quorate/cli"
	"quorate.dev/quorate/cli/offline"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/transfer"
)

// importing is the command line of import.
type importing struct {
	from, fromWAL    string
	dataDir, walDir  string
	name, cluster    string
	skipHash         bool
	session          *cli.Session
	bar              *offline.Bar
	fetched          string // a snapshot of a server, to be removed
	interruptContext context.Context
}

func (i *importing) verb() cli.Verb {
	return cli.Verb{
		Use: "import --from DIRECTORY|SNAPSHOT|ENDPOINTS --data-dir DIRECTORY", Group: cli.GroupServer, Interrupts: true,
		Short: "Make a data directory out of etcd's, 3.4 to 3.7",
		Long: `Make a data directory out of one of etcd 3.4 to 3.7, a snapshot that etcd saved, or a running member.

Every revision, compaction, lease, user, role and alarm is kept, and the ids of the cluster and of its members.

From a directory, whose etcd must not run, the log is taken over, too: term, vote and what the member has acknowledged and
not yet applied. All members of a cluster, each imported from its own directory, are the same cluster again.
From a snapshot or a running member, the data end with the snapshot. A cluster of several members is imported on every
machine from the same snapshot file, each time with another --name.

The result is compared with the source, by HashKV, at the newest revision and at some before. An import that was stopped or
killed leaves nothing that a server would open; run it again.`,
		Example: `  quorate import --from /var/lib/etcd --data-dir /var/lib/quorate
  quorate import --from /backup/etcd.db --name m1 --data-dir /var/lib/quorate
  quorate import --from https://10.0.0.1:2379 --cacert ca.crt --user root --data-dir /var/lib/quorate`,
		Flags: i.flags, Run: i.run,
	}
}

func (i *importing) flags(f *pflag.FlagSet) {
	f.StringVar(&i.from, "from", "", "Required. A data directory of etcd, a snapshot file, or endpoints (http://host:2379)")
	f.StringVar(&i.fromWAL, "from-wal-dir", "", "where etcd's log lies, when it ran with --wal-dir")
	f.StringVar(&i.dataDir, "data-dir", "", "Required. The directory to make; it must not exist, or be empty")
	f.StringVar(&i.walDir, "wal-dir", "", "where to put the log; the default is inside --data-dir")
	f.StringVar(&i.name, "name", "", "which member of a snapshot this will be, by its name")
	f.StringVar(&i.cluster, "cluster-id", "", "id of the cluster, hexadecimal, for a snapshot file, which does not hold it")
	f.BoolVar(&i.skipHash, "skip-hash-check", false, "take a snapshot file that has no checksum, or a wrong one")
}

func (i *importing) run(s *cli.Session, args []string) (err error) {
	if len(args) > 0 || i.from == "" || i.dataDir == "" {
		return cli.Failf(cli.ExitBadArgs, "import takes --from and --data-dir, and no arguments")
	}
	i.session, i.bar, i.interruptContext = s, offline.NewBar(s.Process, s.Clock()), s.Process.Context
	began := s.Clock().Now()
	source, err := i.open()
	if err != nil {
		i.bar.End()
		return errors.Join(remedied(s, err), i.clean())
	}
	report, err := transfer.Import(i.interruptContext, source, transfer.Options{DataDir: i.dataDir, LogDir: i.walDir, Clock: s.Clock(), Progress: i.bar.Show})
	i.bar.End()
	if err = errors.Join(err, source.Close(), i.clean()); err != nil {
		return remedied(s, err)
	}
	report.From = i.from
	report.Seconds = s.Clock().Now().Sub(began).Seconds()
	return i.show(report)
}

// clean removes what was fetched.
func (i *importing) clean() error {
	if i.fetched == "" {
		return nil
	}
	return os.RemoveAll(i.fetched)
}

// open opens what --from names.
func (i *importing) open() (*transfer.Source, error) {
	cluster, err := clusterID(i.cluster)
	if err != nil {
		return nil, err
	}
	kind, err := transfer.KindOf(i.from)
	if err != nil {
		return nil, err
	}
	switch {
	case kind == transfer.EtcdDir:
		return i.openDir(cluster)
	case kind == transfer.File:
		if i.fromWAL != "" {
			return nil, cli.Failf(cli.ExitBadArgs, "--from-wal-dir belongs to a data directory, and %s is a file", i.from)
		}
		return transfer.OpenSnapshot(i.interruptContext, i.from, transfer.SnapshotOptions{Name: i.name, Cluster: cluster, SkipChecksum: i.skipHash})
	case kind == transfer.OwnDir:
		return nil, cli.Failf(cli.ExitBadArgs, "%s is a data directory of Quorate already: quorate serve --data-dir %s", i.from, i.from)
	case kind == transfer.OtherDir:
		return nil, cli.Failf(cli.ExitBadArgs, "%s is no data directory of etcd: there is no directory \"member\" in it", i.from)
	case isEndpoints(i.from):
		return i.fetch(cluster)
	}
	return nil, cli.Failf(cli.ExitBadArgs, "there is no file or directory %s, and it does not look like endpoints (http://host:2379)", i.from)
}

func (i *importing) openDir(cluster ids.ClusterID) (*transfer.Source, error) {
	if cluster != 0 || i.skipHash {
		return nil, cli.Failf(cli.ExitBadArgs, "--cluster-id and --skip-hash-check are for snapshots; a data directory says what it needs")
	}
	source, err := transfer.OpenDir(i.interruptContext, i.from, i.fromWAL)
	if err == nil && i.name != "" && i.name != source.Name() {
		err = errors.Join(cli.Failf(cli.ExitBadArgs, "%s is the directory of member %s, whose name is %q, not %q", i.from, source.Self, source.Name(), i.name), source.Close())
	}
	return source, err
}

// fetch saves a snapshot of a server beside the target.
func (i *importing) fetch(cluster ids.ClusterID) (*transfer.Source, error) {
	s := i.session
	s.Globals.Endpoints = strings.Split(i.from, ",")[:1]
	endpoint := s.Globals.Endpoints[0]
	client, err := s.Client()
	if err != nil {
		return nil, err
	}
	ctx, cancel := s.Timeout()
	defer cancel()
	list, err := client.MemberList(ctx)
	if err != nil {
		return nil, err
	}
	status, err := client.Status(ctx, endpoint)
	if err != nil {
		return nil, err
	}
	if at := ids.ClusterID(list.Header.ClusterId); cluster != 0 && cluster != at {
		return nil, cli.Failf(cli.ExitBadArgs, "--cluster-id is %s and %s is a member of cluster %s", cluster, endpoint, at)
	}
	o := transfer.SnapshotOptions{Name: i.name, Cluster: ids.ClusterID(list.Header.ClusterId), Live: i.live(client, endpoint)}
	if o.Name == "" {
		o.Self = ids.MemberID(status.Header.MemberId)
	}
	if err := os.MkdirAll(filepath.Dir(filepath.Clean(i.dataDir)), 0o700); err != nil {
		return nil, err
	}
	i.fetched = filepath.Clean(i.dataDir) + ".fetched.db"
	fetching, stop := context.WithCancelCause(s.Context)
	defer stop(nil)
	defer context.AfterFunc(i.interruptContext, func() { stop(context.Cause(i.interruptContext)) })()
	if _, err := s.SaveSnapshot(fetching, i.fetched); err != nil {
		return nil, errors.Join(err, context.Cause(i.interruptContext))
	}
	return transfer.OpenSnapshot(i.interruptContext, i.fetched, o)
}

// live asks a server for its HashKV.
func (i *importing) live(client *clientv3.Client, endpoint string) func(ids.Revision) (uint32, ids.Revision, error) {
	return func(at ids.Revision) (uint32, ids.Revision, error) {
		ctx, cancel := context.WithTimeout(i.interruptContext, time.Minute)
		defer cancel()
		r, err := client.HashKV(ctx, endpoint, int64(at))
		if err != nil {
			return 0, 0, err
		}
		return r.Hash, ids.Revision(r.CompactRevision), nil
	}
}

// outcome is a report with what the process adds.
type outcome struct {
	*transfer.Report
	PeakMemory int64  `json:"peak_memory_bytes,omitempty"`
	Next       string `json:"next"`
}

// show prints the report.
func (i *importing) show(r *transfer.Report) error {
	next := "quorate serve --data-dir " + i.dataDir
	if r.Name != "" {
		next = "quorate serve --name " + r.Name + " --data-dir " + i.dataDir
	}
	if i.walDir != "" {
		next += " --wal-dir " + i.walDir
	}
	return show(i.session, outcome{r, peakMemory(), next}, "imported")
}

func show(s *cli.Session, o outcome, did string) error {
	w := s.Process.Stdout
	if s.Globals.Output == "json" {
		return json.NewEncoder(w).Encode(o)
	}
	if s.Globals.Output != "simple" {
		return cli.Failf(cli.ExitBadFeature, "the report is printed as simple or json only")
	}
	r := o.Report
	fmt.Fprintf(w, "%s %s records (%s) up to revision %d", did, humanize.Comma(r.Records), humanize.Bytes(uint64(r.Bytes)), r.Revision)
	if r.Compacted > 0 {
		fmt.Fprintf(w, ", compacted at %d", r.Compacted)
	}
	fmt.Fprintf(w, "\n%d leases, %d users, %d roles, %d alarms\n", r.Leases, r.Users, r.Roles, r.Alarms)
	fmt.Fprintf(w, "cluster %s of %d member(s), this is %s (%s)\n", r.Cluster, r.Members, r.Member, r.Name)
	fmt.Fprintf(w, "log: entry %d of term %d, and %d after it; committed up to %d\n", r.Log.Index, r.Log.Term, r.Log.Entries, r.Log.Commit)
	fmt.Fprintf(w, "HashKV equal at %d revisions:", len(r.Hashes))
	for _, h := range r.Hashes {
		fmt.Fprintf(w, " %d=%d", h.Revision, h.Hash)
	}
	fmt.Fprintf(w, "\n%.1f s", r.Seconds)
	if o.PeakMemory > 0 {
		fmt.Fprintf(w, ", at most %s of memory", humanize.IBytes(uint64(o.PeakMemory)))
	}
	fmt.Fprintln(w)
	for _, n := range r.Notes {
		fmt.Fprintln(w, "note:", n)
	}
	fmt.Fprintf(w, "next: %s\n", o.Next)
	return nil
}
