package k8s

import "time"

// The bounds of a run.
const (
	NodesMax         = 1_000_000
	PodsMax          = 10_000_000
	APIServersMax    = 16
	UnderWayMax      = 100_000 // calls under way; what is due beyond is not sent and counts as an error
	DurationMax      = time.Hour
	progressPending  = 256     // progress requests of a stream that wait for an answer
	acksKept         = 1 << 17 // revisions of acknowledged writes kept per resource, for watches that begin in between
	deletesKept      = 1 << 16 // deletions whose start is known to the watchers
	fillUnderWay     = 256     // creations under way while the store is filled
	hopelessUnderWay = 20_000  // calls under way at which a probe ends early
	headBytes        = 256     // of a KeyValue that a list looks at
	errorTexts       = 20      // different texts of errors kept
)

// Times.
const (
	LateAfter        = 10 * time.Millisecond  // a call sent so long after it was due counts as late
	SlotWidth        = 50 * time.Millisecond  // of the finest series
	quantum          = 300 * time.Microsecond // shortest wait of the driver
	pollInbox        = 2 * time.Millisecond   // longest wait of the driver
	retryAfter       = 50 * time.Millisecond  // a write that failed is tried again after that
	linkDown         = 5 * time.Millisecond   // a call for which there is no connection is tried again after that
	redialFirst      = 5 * time.Millisecond
	redialMax        = 500 * time.Millisecond
	dialTimeout      = 2 * time.Second
	drainPatience    = time.Minute // for what is under way when a run ends
	deliveryPatience = 30 * time.Second
	progressEvery    = 100 * time.Millisecond
)

// As Kubernetes has them.
const (
	leaseEvery    = 10 * time.Second // a kubelet renews its Lease
	reuseLease    = 1000             // Events that share one lease at most
	reuseLeaseFor = time.Minute      // and for how long
	bulkLimit     = 10_000           // page of an API server's own lists
	pageLimit     = 500              // page of kubectl's
	nodesPerSpace = 100              // nodes whose pods share a namespace
)
