// Package restore makes a data directory out of a file in etcd's snapshot format, saved by etcd or by this server: a member of
// a new cluster begins with what the file holds.
//
// It is not a command line (package cli/offline) and it does not read flags: who is in the new cluster is decided by the caller.
// It never changes the file.
//
// Data passes like this: New looks whether the target is free; Run checks the file's checksum, then walks over its pages once
// and commits what it finds, in bounded batches, to an engine in a directory beside the target; it reads that back and compares;
// then it writes a log that continues after it, and renames.
//
// Invariants: nothing is written before the checksum was found right; the target appears complete and durable, or not at all;
// what a restore leaves behind when it is killed has a name that no server opens, and the next restore to the same target removes
// it. The keys keep their revisions, and HashKV answers what it answered where the file was saved. Every member of the cluster
// that is restored from the same file begins with the same entry, one above those that found a cluster: so a member that was
// started without the file is brought a snapshot and never passes for one that has it.
package restore
