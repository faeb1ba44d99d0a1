// Package limits names every bound of the store, with its unit, so that memory never grows with what clients ask.
//
// It is not configuration: settings an operator may change live in package config and take their defaults from here.
//
// Invariants: relations between bounds are tested in this package.
package limits

import "time"

// Requests and messages.
const (
	RequestBytes         = 1572864       // a request marshalled for the log, bytes (etcd --max-request-bytes)
	RequestOverheadBytes = 512 << 10     // added to RequestBytes for the receive limit and the watch fragment threshold, bytes
	TxnOps               = 128           // operations per list of a transaction (etcd --max-txn-ops)
	TxnElementsPerOp     = 64            // compares and operations of all levels of a transaction, per allowed operation of one list
	LeaseTTLSecondsMax   = 9_000_000_000 // a lease's TTL, seconds
	ProposalsInFlight    = 5000          // committed but not applied entries before TooManyRequests
	SnapshotChunkBytes   = 32 << 10      // one blob of Maintenance.Snapshot, bytes
	StreamOutboxBytes    = 1 << 20       // replies queued on one stream before it counts as slow, bytes
	WatchIDAuto          = int64(0)      // a create request with this id asks for a chosen one
	WatchIDInvalid       = int64(-1)     // the id in refused creates and stream-wide progress
)

// Large reads.
const (
	RangeWorkers       = 2         // goroutines for ranges and hashes that would hold up a connection's reader
	RangeQueue         = 4096      // such requests waiting before TooManyRequests
	RangeInlineRecords = 1000      // records that a request may touch and still be answered on the reader
	RangeReplyBytes    = 1 << 20   // a larger answer is written in pieces as the client takes it, bytes
	RangePieceBytes    = 128 << 10 // records in one such piece, bytes
)

// Batches and queues.
const (
	ProposalBatchEntries = 4096    // entries proposed to raft in one step
	ProposalBatchBytes   = 4 << 20 // bytes proposed to raft in one step
	ApplyBatchEntries    = 4096    // entries applied in one engine batch
	ApplyBatchBytes      = 8 << 20 // bytes of commands applied in one engine batch
	LogSegmentBytes      = 64_000_000
	RaftMessageBytes     = 1 << 20   // raft's MaxSizePerMsg, bytes
	RaftInflight         = 512       // raft's MaxInflightMsgs
	RaftInflightBytes    = 32 << 20  // entries sent to one member and not answered, bytes (raft's MaxInflightBytes)
	PeerQueueMessages    = 4096      // messages waiting for one stream to one member
	PeerQueueBytes       = 64 << 20  // bytes of those messages
	PeerMessageBytes     = 512 << 20 // one message of another member, bytes
	LogRetainedEntries   = 5000      // entries kept in memory for followers behind the applied index
	LogRetainedBytes     = 16 << 20  // bytes of those entries; whichever bound is reached first counts
	LogHeldEntries       = 1_000_000 // entries kept in memory while a follower is brought a snapshot
	LogHeldBytes         = 256 << 20 // bytes of those entries; beyond it the follower needs another snapshot
	LogUnflushedBytes    = 64 << 20  // log beyond the engine's durable mark before a flush is asked for, bytes
	ProposalsPending     = 1 << 16   // proposals and reads accepted and not answered before TooManyRequests
	ProposalPendingBytes = 256 << 20 // bytes of those proposals
	ChangesPending       = 64        // changes of membership accepted and not answered before TooManyRequests
	ProposalsParked      = 4096      // messages with proposals of other members, kept while there is no leader who takes them
	ProposalsParkedBytes = 64 << 20  // bytes of those proposals
	ApplyOutstanding     = 16 << 20  // bytes of committed entries handed to the apply queue and not applied
)

// Watches.
const (
	WatchLogBytes     = 64 << 20 // events kept in the shared log, bytes
	WatchLogRevisions = 100_000  // revisions kept in the shared log
	WatchBatchRevs    = 1000     // revisions in one catch-up response
	WatchBatchBytes   = 1 << 20  // bytes aimed at in one catch-up response (one revision is never split)
	WatchersPerStream = 1 << 20  // watchers of one stream
)

// Leases, compaction and the index.
const (
	LeaseRevokesPerRound   = 500  // expired leases revoked in one round
	LeaseCheckpointsPerReq = 1000 // leases in one checkpoint command
	ScrubBatchRevs         = 128  // revisions removed from the engine in one step, which a write may have to wait for
	IndexRoots             = 256  // past index roots kept for O(log n) counts at recent revisions
	CompactionHashes       = 10   // hashes of past compactions kept for HashKV
)

// Quota.
const (
	QuotaBytesDefault   = 2 << 30 // etcd --quota-backend-bytes when 0
	QuotaBytesSuggested = 8 << 30 // above this etcd warns
	QuotaCostPut        = 256     // charged per put besides key and value, bytes
	QuotaCostLease      = 64      // charged per lease grant, bytes
)

// The audit log.
const (
	AuditQueue      = 4096     // entries waiting to be written before more are counted as lost
	AuditRanges     = 16       // key ranges of one request that are shown
	AuditKeyBytes   = 512      // of a key that are shown
	AuditEntryBytes = 4 << 10  // of all keys of one request that are shown
	AuditTextBytes  = 256      // of any other text that are shown
	AuditWriteBytes = 64 << 10 // lines written at once, bytes; the last line may go beyond
)

// The JSON gateway.
const (
	GatewayBodyFactor   = 8         // the JSON text of one request, in largest gRPC messages: numbers, names and base64 take more room
	GatewayCallsPerConn = 8         // calls and streams on one connection within the process: what waits for all of them fits there
	GatewayConnsKept    = 2         // such connections that stay without calls
	GatewayWindowBytes  = 256 << 10 // bytes of one answer on their way to a client that does not read
)

// Passwords and tokens.
const (
	PasswordQueue        = 128             // passwords waiting for a processor before TooManyRequests; at cost 10 some 6 s of one
	PasswordQueuePerUser = 32              // of these, of one user; unknown users and new passwords count as one user each
	PasswordsWaiting     = 4096            // requests that wait for these passwords, those that share one included
	Credentials          = 1 << 14         // passwords found right and remembered, some 200 bytes each
	SimpleTokens         = 1 << 17         // simple tokens of a member, some 400 bytes each; over it the least used go first
	SimpleTokenAhead     = LogHeldEntries  // entries that a token's index may be ahead of what is applied and be waited for
	TokenBytes           = 16 << 10        // a longer token is refused unread, bytes
	TokensVerified       = 1 << 13         // JSON web tokens found valid and remembered
	TokensIssued         = 1 << 10         // JSON web tokens of one second kept for those who ask again
	TokenVerifiedBytes   = 2 << 10         // a longer one is not remembered, bytes
	TokenKeysRetired     = 4               // replaced keys that still verify
	TokenKeyPoll         = 1 * time.Second // least time between two looks at the key files
	TokenSweep           = 1 * time.Second // least time between two rounds that remove expired simple tokens
)

// Failures.
const (
	HealRetry      = 2 * time.Second // between two attempts to find a leader that heals a member
	StallElections = 1               // election timeouts without progress of its log or state machine after which a leader gives up
)

// Times.
const (
	RequestTimeoutBase = 5 * time.Second        // plus two election timeouts: the server's request timeout
	LeaseRound         = 500 * time.Millisecond // period of lease expiry rounds on the leader
	LeaseCheckpoint    = 5 * time.Minute        // period of lease checkpoints
	HealthInterval     = 5 * time.Second        // for how long members must have been connected before one more is added or one goes
	WatchProgress      = 10 * time.Minute       // period of progress notifications
)

// TLS.
const (
	HandshakesPending = 1024                // handshakes of a listener under way before the oldest of whoever has most is given up
	HandshakeTimeout  = 10 * time.Second    // of one handshake
	CertLook          = time.Second         // between two looks whether the files of certificates changed
	CertWarning       = 30 * 24 * time.Hour // before a certificate ends, at most a third of its life
	CertWatch         = time.Hour           // between two looks whether one is about to end
)

// Command line.
const (
	Completions        = 100             // keys that a shell is offered
	CompletionTime     = 2 * time.Second // that a shell waits for them
	DiagnosedEndpoints = 5               // endpoints that a failed command looks at
	DiagnosisTime      = 4 * time.Second // of that look
	RefusedTime        = 1 * time.Second // that a command tries endpoints at which nothing listens
	DiagnosisBytes     = 64 << 10        // of a page read for it
)

// NotifyWait is how long telling the service manager something may take.
const NotifyWait = 1 * time.Second

// Web page.
const (
	UIPast      = 150             // digests of metrics kept for plots, about 2 KiB each
	UIPastEvery = 4 * time.Second // between two of them
)
