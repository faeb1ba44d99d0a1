package httpapi

// Sample is one reading of everything that a scrape shows and no hot path counts. Package server fills it.
type Sample struct {
	Raft           RaftSample
	Store          StoreSample
	Watch          WatchSample
	Lease          LeaseSample
	Disk           DiskSample
	Alarms         []AlarmSample
	Members        []string     // ids, hexadecimal
	Peers          []PeerSample // the other members
	TLS            []TLSSample
	ClusterVersion string // "" before the cluster decided
	AuthRevision   uint64 // of users and roles
}

// RaftSample is the state of the raft host.
type RaftSample struct {
	HasLeader, IsLeader, IsLearner bool
	LeaderChanges                  uint64            // changes of leader seen since the start
	Committed, Applied             uint64            // indexes
	Pending                        uint64            // proposals waiting for their result
	Failed                         uint64            // proposals that failed since the start
	SlowApplies                    uint64            // batches slower than warning-apply-duration
	SlowReads                      uint64            // read barriers that took long
	FailedReads                    uint64            // read barriers that failed
	LateHeartbeats                 uint64            // sent by this leader more than a heartbeat interval too late
	Promotions                     uint64            // learners made voters by this member
	PromotionsRefused              map[string]uint64 // by reason
}

// StoreSample is the state of the key space.
type StoreSample struct {
	Keys                int64
	Revision, Compacted int64
	TotalBytes          int64 // files on disk
	InUseBytes          int64 // retained data, what the quota counts
	QuotaBytes          int64 // 0 when there is no quota
	OpenReads           int64
	Puts, Deletes, Txns uint64 // keys put and deleted, and transactions of more than one change, since the start
	PutBytes            uint64 // keys and values put since the start
	CompactedAt         int64  // Unix time of the last compaction, seconds; 0 none
	Scrubbed            uint64 // revisions removed by compaction since the start
}

// WatchSample is the state of the watch hub.
type WatchSample struct {
	Streams, Watchers, Slow, Pending int
	Events                           uint64 // offered to watchers since the start
}

// LeaseSample counts leases since the start.
type LeaseSample struct {
	Granted, Revoked, Renewed, Expired uint64
}

// DiskSample is what the log has written.
type DiskSample struct {
	LogBytes         uint64 // written to the log since the start
	OpenFiles, Limit uint64 // file descriptors of the process
}

// AlarmSample is a raised alarm.
type AlarmSample struct {
	Member string // id, hexadecimal
	Name   string
}

// TLSSample is what concerns the certificates towards one kind of partners.
type TLSSample struct {
	Side                 string // "client" or "peer"
	Handshakes, Rejected uint64 // that succeeded, and connections that came to nothing, since the start
	Reloads, Failures    uint64 // of changed files that are in use, and that could not be used
	Failing              bool   // there are such now
	Ends                 []CertificateSample
}

// CertificateSample is the end of what a file holds.
type CertificateSample struct {
	What, File string
	Unix       int64   // when it ends, seconds since 1970
	Left       float64 // until then, seconds; negative afterwards
}
