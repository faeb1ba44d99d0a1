// Package migrate turns the keys that a member of an etcd 2.0 to 3.4 cluster has under the v2 API into keys of the v3 API, as
// "etcdctl migrate" of etcd 3.0 to 3.4 does, and says whether the members of such a cluster have converged so far that this may
// be done.
//
// It is not a command line (package cli/migrating), it does not import keys of the v3 API (which a directory may hold as well),
// and it talks to no server.
//
// Data passes like this. Open refuses a directory that is not sound or in use, and locks it. The tree that the newest .snap file
// holds and all entries of the log behind it, committed or not, are replayed into a v2store. Its nodes go, depth first and in the
// order of their names, to the transformer, in process or a program: JSON objects on its stdin, without anything between them. The
// key-values it answers with, each behind its length in 8 bytes little-endian, are checked, put in the order of their revisions and
// written to the destination, which is then read back and compared with what the tree holds.
//
// Invariants: nothing is written to the source unless the destination is the source itself, and then its db file is replaced as a
// whole, by one that was read back before; a destination appears complete and compared, or not at all; a transformer that fails in
// any way leaves nothing behind, neither files nor processes; nothing that was read is passed over without being counted in the
// Report.
package migrate
