// Package canary names mistakes that can be planted in a build with the tag canary, so that the tests that are to find such mistakes
// can be tested themselves. In every other build On is false and what it guards is left out by the compiler.
//
// It is no switch of the product: nothing reads a setting outside builds with the tag.
package canary

// Name is one mistake.
type Name string

// The mistakes. Numbers are those of etcd's own record of correctness bugs, whose cause each repeats in our code.
const (
	MarkAhead        Name = "13766"  // a restart believes an entry to be applied that is not
	AckUnsynced      Name = "14370"  // an only member acknowledges before its log is durable
	StalePermissions Name = "14571"  // what users may do is not worked out when the state is opened
	ReleaseEarly     Name = "14685"  // the log lets go of what the engine does not hold durably
	ProgressAhead    Name = "15220"  // a progress notification overtakes events
	WatchTravelsBack Name = "15271"  // a watch that resumes on a member that lags gets events again
	EventTwice       Name = "17247"  // an event of a transaction comes twice
	EventsDropped    Name = "17529"  // a reader that is slow loses events
	RevisionBack     Name = "17780"  // a restart after a compaction takes the newest key that is left for the revision
	SnapshotGone     Name = "18055"  // a snapshot that comes in takes away one that is about to be installed
	DeleteLost       Name = "18089"  // a watch from a compacted revision is served without what is gone
	TxnReadsDropped  Name = "18667"  // members that nobody waits at leave out the reads of a transaction, and so their refusal
	GraveForgotten   Name = "19179"  // a restart forgets a deletion of which the values before it are gone already
	FutureIgnored    Name = "20221"  // a watch from a future revision gets what comes before
	FutureNotified   Name = "20221b" // a watch from a future revision is notified of what comes before
	StoreBack        Name = "20271"  // a defragmentation puts the old store in the place of a snapshot that was installed meanwhile
	ReadRoundReused  Name = "20418"  // a round of reads has the name of an earlier one

	SkipSync       Name = "skip-sync"      // the log is never synced
	AckBeforeWrite Name = "ack-before"     // a follower acknowledges entries before they are written
	ApplyLate      Name = "apply-late"     // writes are answered before they can be read
	ForgetPrev     Name = "forget-prev"    // some events lack what was there before
	ReissueAll     Name = "reissue-all"    // what was applied is proposed again after a change of the leader
	TakeLate       Name = "take-late"      // a proposal to an earlier leadership is taken
	ForgetVote     Name = "forget-vote"    // a vote is not durable
	SnapshotShort  Name = "snapshot-short" // a snapshot claims to cover an entry more than it does
	StaleReads     Name = "stale-reads"    // a leader reads without asking the others
	KeepRevoked    Name = "keep-revoked"   // a revoked lease leaves one of its keys
	RotOffered     Name = "rot-offered"    // a damaged table is handed on in a snapshot
	SkipCommand    Name = "skip-command"   // one member leaves out a command now and then

	SkipNested  Name = "auth-skip"  // what is nested in a transaction is not decided
	OldAccepted Name = "auth-stale" // an entry is taken although users or roles have changed since it was proposed

	RemovedServes Name = "removed-serves" // nobody knows afterwards that a member was removed, and it goes on
	PromoteLost   Name = "promote-lost"   // a restart forgets that a learner was promoted
	SnapshotOld   Name = "snapshot-old"   // a member that joined is offered a snapshot from before

	LeaseEarly  Name = "lease-early"        // a leader lets a lease end although it was renewed
	RenewalLost Name = "lease-renewal-lost" // a renewal leaves the checkpoint that was made before it
	RevokeLate  Name = "lease-revoke-late"  // what a leader revokes when it leads no more is taken by the next

	V2ExpireLocal  Name = "v2-expire-local"  // members remove what has expired by a clock of their own
	V2ExpireEarly  Name = "v2-expire-early"  // a leader has removed what expires in the next second too
	V2ExpireLate   Name = "v2-expire-late"   // a leader has removed what has expired now and then only
	V2IndexIgnored Name = "v2-index-ignored" // a comparison looks at the value alone when it is given
	V2LeaseUnseen  Name = "v2-lease-unseen"  // files whose v3 keys go with their lease stay
	V2ShadowLost   Name = "v2-shadow-lost"   // a v3 key that could not be shown is not when it can be
	V2HistoryLost  Name = "v2-history-lost"  // a restart forgets the history of events
	V2WatchNext    Name = "v2-watch-next"    // a watcher from the newest index waits for the one after it
	V2KeyLeft      Name = "v2-key-left"      // what expires in the v2 tree leaves its v3 key
)
