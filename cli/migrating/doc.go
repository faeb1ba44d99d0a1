// Package migrating is the command line of a migration from etcd's v2 API: the verb migrate and, inside it, check.
//
// It is not where anything is migrated or compared (package migrate); it reads flags, asks the members of a running cluster how far
// they are, shows progress, and says what to do next.
//
// How data passes: a command line becomes migrate.Options, a migrate.Report becomes text or JSON. check gathers a migrate.State of
// each member, from its answers or its data directory, and shows what migrate.Judge says of them.
//
// Invariants: without a destination nothing begins; the lines that etcd's own migration prints are printed as they are; -w json puts
// one object on stdout and everything else on stderr.
package migrating
