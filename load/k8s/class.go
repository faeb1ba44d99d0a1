package k8s

import "time"

// class is what calls are told apart by: a verb and a resource.
type class uint8

const (
	createPods class = iota
	updatePods
	deletePods
	updateLeases
	updateNodes
	createEvents
	grantLeases
	getPods
	getNodes
	listPods
	listAllPods
	relists
	updateCompact
	compactStore
	createNodes  // while filling only
	createLeases // while filling only
	revisions    // reads that find out the store's revision
	classes
)

// kinds says of each class how it is called, and whether its calls are pages of lists.
var kinds = [classes]struct {
	verb, resource string
	list           bool
}{
	createPods: {"create", "pods", false}, updatePods: {"update", "pods", false}, deletePods: {"delete", "pods", false},
	updateLeases: {"update", "leases", false}, updateNodes: {"update", "nodes", false}, createEvents: {"create", "events", false},
	grantLeases: {"grant", "(etcd lease)", false}, getPods: {"get", "pods", false}, getNodes: {"get", "nodes", false},
	listPods: {"list-500", "pods", true}, listAllPods: {"list-10000", "pods", true}, relists: {"relist-10000", "(all)", true},
	updateCompact: {"update", "compact_rev_key", false}, compactStore: {"compact", "(store)", false},
	createNodes: {"create", "nodes", false}, createLeases: {"create", "leases", false}, revisions: {"get", "compact_rev_key", false},
}

// limit is the service level of a class.
func (s *SLO) limit(c class) time.Duration {
	if kinds[c].list {
		return s.List
	}
	return s.Call
}
