package compat

// Difference is a behaviour in which quorate departs from etcd on purpose. A scenario names it before the statement
// whose answer differs; the suite fails if the difference is not there, so that the table cannot outlive the code.
type Difference struct {
	Name   string // as scenarios refer to it
	Row    string // id of its row in docs/COMPAT.md
	Reason string
}

// Known lists all allowed differences.
var Known = []Difference{
	{"auth-later", "auth-later", "users, roles and the switch are not in this version; refusing is safe, pretending is not"},
	{"downgrade-later", "downgrade-later", "changing the format of the store for an older release is not in this version"},
	{"watch-compacted-id", "watch-compacted-id", "etcd keeps the id of a watch that compaction cancelled and withholds progress answers from its stream; ours is free of both"},
	{"compact-zero", "compact-zero", "compacting a fresh store to revision 0 makes etcd answer HashKV from a stale hash of revision 0"},
}
