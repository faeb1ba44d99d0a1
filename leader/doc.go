// Package leader does what only the leader of the group does: it keeps the deadlines of leases and revokes those that have
// run out, checkpoints remaining times, compacts old revisions on a schedule, takes back a NOSPACE alarm when there is space
// again, raises the cluster version, removes what has expired in the tree of the v2 API, and brings that into its mode.
//
// It is not part of the replicated state: nothing here is stored or agreed upon, and a new leader starts afresh from the
// leases it finds. It changes the state only by proposing, like any client.
//
// Data passes like this. The server calls Promote with all leases when this member leads and has applied everything before,
// Demote as soon as it does not lead, and Apply with the lease changes of each batch, all in the order of the log. Requests
// call Renew, RenewAsync, Remaining, Order and Await. One goroutine, started by Start, makes a round every
// limits.LeaseRound, or a caller who wants no goroutine makes the rounds with Round; whatever a round finds due it proposes
// through the Proposer and forgets until the proposal is answered.
// All time comes from the Clock; differences of its monotonic readings are used, so that a wall clock that jumps revokes
// nothing. The v2 API alone has times of the wall clock, which its requests carry.
//
// Invariants:
//   - While this member leads, every lease of the state has a deadline; while it does not, none has, and none expires.
//   - A renewal moves a deadline back without a log entry and without touching the queue: the queue holds, for every lease
//     that is not being revoked, one instant at or before its deadline, and looks again when that instant comes.
//   - What it proposes about leases takes effect as an entry of the term that this member leads, or not at all: a member that is deposed
//     and does not know it yet ends no lease that the next leader has renewed.
//   - At most limits.LeaseRevokesPerRound revocations are under way.
//   - A lease whose deadline has passed is never renewed. Who tries waits until it is revoked, and is told that there is none.
//   - What is proposed and answered, and in which order, follows from the calls and the Clock alone: no random number and no
//     order of a map has a part in it.
//   - No callback and no proposal is made with the lock held.
package leader
