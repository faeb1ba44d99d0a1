package migrating

import (
	"fmt"
	"io"
	"strings"

	"quorate.dev/quorate/migrate"
)

// print shows a report to a person.
func (f *flags) print(w io.Writer, r *migrate.Report) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-12s %s\n", name, fmt.Sprintf(format, args...))
	}
	from := fmt.Sprintf("%d entries of the log", r.Source.Entries)
	if r.Source.SnapshotIndex > 0 {
		from = fmt.Sprintf("the snapshot of entry %d and %s", r.Source.SnapshotIndex, from)
	}
	line("source", "%s (member %s of cluster %s): %s, up to raft index %d", r.Source.DataDir, r.Source.Member, r.Source.Cluster, from, r.Source.RaftIndex)
	line("read", "%s and %d directories, at v2 index %d", count(r.Read.Keys, "key"), r.Read.Directories, r.Source.V2Index)
	skipped(line, r)
	ttl(line, r)
	switch {
	case r.DryRun:
		line("dry run", "%s would be written%s; revision %d", count(r.Written.Keys, "key"), leases(r), r.Written.Revision)
	case r.Path == "" && r.Destination == migrate.Nowhere.String():
		line("written", "nothing")
	default:
		place := r.Destination
		if r.Path != "" {
			place += " " + r.Path
		}
		line("written", "%s%s into the %s; revision %d", count(r.Written.Keys, "key"), leases(r), place, r.Written.Revision)
		line("verified", "%s read back and compared with the source: equal", count(r.Verified, "key"))
	}
	warnings(line, r)
	f.next(w, r)
}

func count(n int64, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

func leases(r *migrate.Report) string {
	if r.Written.Leases == 0 {
		return ""
	}
	return fmt.Sprintf(", %d of them with %s", r.Written.WithTTL, count(r.Written.Leases, "lease"))
}

func skipped(line func(name, format string, args ...any), r *migrate.Report) {
	var parts []string
	add := func(n int64, text string) {
		if n > 0 {
			parts = append(parts, text)
		}
	}
	s := r.Skipped
	directories := "directory (the v3 API has none)"
	if s.Directories != 1 {
		directories = "directories (the v3 API has none)"
	}
	add(s.Directories, fmt.Sprintf("%d %s", s.Directories, directories))
	add(s.TTL, count(s.TTL, "key")+" with a TTL")
	more := ""
	if s.Hidden > int64(len(r.Read.HiddenNames)) {
		more = ", ..."
	}
	add(s.Hidden, fmt.Sprintf("%s (%s%s)", count(s.Hidden, "hidden key"), strings.Join(r.Read.HiddenNames, ", "), more))
	add(s.Clashes, count(s.Clashes, "key")+" that clashed with another one")
	if len(parts) > 0 {
		line("skipped", "%s", strings.Join(parts, ", "))
	}
}

// ttl says what became of keys that expire.
func ttl(line func(name, format string, args ...any), r *migrate.Report) {
	if r.Read.TTL+r.Read.InTTL == 0 {
		return
	}
	have := fmt.Sprintf("%s with a TTL", count(r.Read.TTL, "key"))
	if r.Read.InTTL > 0 {
		have += fmt.Sprintf(" and %d in directories with one", r.Read.InTTL)
	}
	if r.Read.Expired > 0 {
		have += fmt.Sprintf(", %d of them over", r.Read.Expired)
	}
	line("ttl", "%s: %s", have, map[string]string{
		migrate.Permanent.String(): "they stay for ever (--ttl=lease keeps their time, --ttl=drop leaves them out)",
		migrate.Drop.String():      "those with a TTL of their own are left out, the others stay for ever",
		migrate.Lease.String():     "they have leases with the time that is left of them",
	}[r.TTL])
}

func warnings(line func(name, format string, args ...any), r *migrate.Report) {
	if n := r.Source.Uncommitted; n > 0 {
		line("note", "the last %d entries are not known to be committed; they are migrated, as etcd does: see to it that \"quorate migrate check\" found all members equal", n)
	}
	if n := r.Read.NotUTF8; n > 0 {
		line("note", "%s with a name or value that is no UTF-8: the default transformer keeps the bytes, a program gets U+FFFD in their place", count(n, "key"))
	}
	if n := r.Source.Others; n > 0 {
		line("note", "%d records of the v3 API are in the source as well and were left where they are", n)
	}
	if n := r.Source.V2Auth; n > 0 {
		line("note", "%d users and roles of the v2 API are not migrated: make them anew with \"quorate user add\" and \"quorate role add\"", n)
	}
}

// next says what comes next.
func (f *flags) next(w io.Writer, r *migrate.Report) {
	switch r.Destination {
	case migrate.DataDir.String():
		wal := ""
		if f.toLog != "" {
			wal = " --wal-dir " + f.toLog
		}
		fmt.Fprintf(w, "next:\n  quorate serve --name %s --data-dir %s%s\n", f.cluster.Name, f.to, wal)
	case migrate.Snapshot.String():
		fmt.Fprintf(w, "next, for every member:\n  quorate snapshot restore %s --data-dir DIR --name NAME --initial-cluster ... --initial-advertise-peer-urls ...\n", f.snapshot)
	}
}
