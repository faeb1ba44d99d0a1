// Package transfer brings data over from etcd and back: what etcd 3.4 to 3.7 keeps on disk, or saved as a snapshot, becomes a
// data directory of this store, and one of this store becomes a data directory of etcd.
//
// It is not a command line (package cli/transferring), it does not speak to servers, and it does not read data of the v2 API
// alone (that is a migration). A source is locked while it is read, so that no etcd starts on it, and never changed.
//
// Data passes like this. Open finds out what a member of etcd knew: its db file at some entry of the log (the mark), its log, its
// ids. Import loads the db through package restore, which builds beside the target and renames, and writes the entries after the
// mark behind it, with term, vote and commit index: what the member had acknowledged, it still has. Export goes the other way.
//
// Invariants: every record, lease, user, role, alarm and member is there afterwards, or the transfer fails, or the report says what
// was left out; the hash of the keys, computed from the source by a program of its own (Hashes), equals that of the
// result, at the newest revision and at some before; the target appears whole or not at all, however the process ends, and
// a second run begins anew.
package transfer
