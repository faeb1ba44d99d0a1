package v2

// Difference is a behaviour in which quorate departs from etcd 3.4 on purpose. A script names its row; the tests fail when the
// difference is not there, so that the table cannot outlive the code.
type Difference struct {
	Row    string // id of its row in docs/COMPAT.md
	Reason string
}

// Known lists all allowed differences.
var Known = []Difference{
	{"v2-index-start", "etcd counts every change of the cluster; a tree that was never used has the index of a cluster that came to be in the shortest way"},
	{"v2-stream-past", "etcd ends a stream that begins in the past after one event, and leaves it open; ours goes on"},
}
