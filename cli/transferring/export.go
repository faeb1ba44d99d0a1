package transferring

import (
	"errors"

	"github.com/spf13/pflag"

	"quorate.dev/quorate/cli"
	"quorate.dev/quorate/cli/offline"
	"quorate.dev/quorate/transfer"
)

// exporting is the command line of export.
type exporting struct {
	to, release, walDir string
	importing           // --from and what goes with it
}

func (e *exporting) verb() cli.Verb {
	return cli.Verb{
		Use: "export --to-etcd DIRECTORY --from DIRECTORY|SNAPSHOT|ENDPOINTS", Group: cli.GroupServer, Interrupts: true,
		Short: "Make a data directory that etcd 3.6 or 3.7 opens",
		Long: `Make a data directory that etcd 3.6 or 3.7 opens, out of a data directory, a snapshot, or a running member.

Everything is kept: revisions, compactions, leases, users, roles, alarms, and the ids of the cluster and of its members. From
a directory, whose server must not run, also the log after the data. All members of a cluster, each exported from its own
directory, are the same cluster again; from a snapshot, export the very same file for each, with another --name.

The result is compared with the source, by HashKV, at the newest revision and at some before.`,
		Example: `  quorate export --from /var/lib/quorate --to-etcd /var/lib/etcd
  quorate export --from /var/lib/quorate --to-etcd /var/lib/etcd --etcd-version 3.6
  quorate export --from http://10.0.0.1:2379 --to-etcd /var/lib/etcd`,
		Flags: e.flags, Run: e.run,
	}
}

func (e *exporting) flags(f *pflag.FlagSet) {
	f.StringVar(&e.to, "to-etcd", "", "Required. The directory to make; it must not exist, or be empty")
	f.StringVar(&e.from, "from", "", "Required. A data directory, a snapshot file, or endpoints (http://host:2379)")
	f.StringVar(&e.walDir, "wal-dir", "", "where the log of --from lies, when the server ran with --wal-dir")
	f.StringVar(&e.release, "etcd-version", "", "3.6 or 3.7: the etcd that will open it; the default is the version of the cluster")
	f.StringVar(&e.name, "name", "", "which member of a snapshot this will be, by its name")
	f.StringVar(&e.cluster, "cluster-id", "", "id of the cluster, hexadecimal, for a snapshot file, which does not hold it")
	f.BoolVar(&e.skipHash, "skip-hash-check", false, "take a snapshot file that has no checksum, or a wrong one")
}

func (e *exporting) run(s *cli.Session, args []string) error {
	if len(args) > 0 || e.from == "" || e.to == "" {
		return cli.Failf(cli.ExitBadArgs, "export takes --from and --to-etcd, and no arguments")
	}
	e.session, e.bar, e.interruptContext, e.dataDir = s, offline.NewBar(s.Process, s.Clock()), s.Process.Context, e.to
	began := s.Clock().Now()
	report, err := e.export()
	e.bar.End()
	if err = errors.Join(err, e.clean()); err != nil {
		return remedied(s, err)
	}
	report.From = e.from
	report.Seconds = s.Clock().Now().Sub(began).Seconds()
	name := ""
	if report.Name != "" {
		name = " --name " + report.Name
	}
	return show(s, outcome{report, peakMemory(), "etcd" + name + " --data-dir " + e.to}, "exported")
}

func (e *exporting) export() (*transfer.Report, error) {
	o := transfer.ExportOptions{To: e.to, Release: e.release, LogDir: e.walDir, Clock: e.session.Clock(), Progress: e.bar.Show}
	kind, err := transfer.KindOf(e.from)
	switch {
	case err != nil:
		return nil, err
	case kind == transfer.OwnDir:
		if e.name != "" || e.cluster != "" || e.skipHash {
			return nil, cli.Failf(cli.ExitBadArgs, "--name, --cluster-id and --skip-hash-check are for snapshots; a data directory says what it needs")
		}
		return transfer.ExportStore(e.interruptContext, e.from, o)
	case kind == transfer.EtcdDir:
		return nil, cli.Failf(cli.ExitBadArgs, "%s is a data directory of etcd already", e.from)
	case e.walDir != "":
		return nil, cli.Failf(cli.ExitBadArgs, "--wal-dir belongs to a data directory, and %s is none", e.from)
	}
	source, err := e.open()
	if err != nil {
		return nil, err
	}
	report, err := transfer.ExportSnapshot(e.interruptContext, source, o)
	return report, errors.Join(err, source.Close())
}
