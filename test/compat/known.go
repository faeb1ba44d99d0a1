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
	{"watch-recheck", "watch-recheck", "etcd goes on showing events to a watch whose user has lost the permission; ours ends it and says why"},
	{"auth-nobody", "auth-nobody", "etcd answers a transaction without operations to nobody; ours asks who it is"},
	{"auth-permission-twice", "auth-permission-twice", "etcd adds a permission again whose keys it has, when another begins with the same key; ours replaces it"},
	{"downgrade-later", "downgrade-later", "changing the format of the store for an older release is not in this version"},
	{"watch-compacted-id", "watch-compacted-id", "etcd keeps the id of a watch that compaction cancelled and withholds progress answers from its stream; ours is free of both"},
	{"compact-zero", "compact-zero", "compacting a fresh store to revision 0 makes etcd answer HashKV from a stale hash of revision 0"},
}
