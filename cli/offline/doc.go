// Package offline is the command line for files: every verb of etcdutl 3.7, byte for byte as etcdutl prints it, and the same
// under our own name, with progress and with errors that say what to do next.
//
// It is not where files are read or made (packages restore, storage, mvcc and internal/etcddb), and it talks to no server
// (package cli).
//
// How data passes: a command line comes in as a cli.Process. A verb opens a source, which is a file of etcd or a data directory
// of ours, and prints what it finds through package render; restore fills a new data directory.
//
// Invariants: no file of etcd is ever changed; a directory of ours is changed by defrag alone; nothing here ends the program or
// touches its standard streams. Texts and exit codes under etcdutl's name are etcdutl's, because scripts read them, and what is
// added to them comes after.
package offline
