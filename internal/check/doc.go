// Package check decides whether what was recorded of a store can be true: operations against a sequential model of the store
// (linearizability, by porcupine), watches against the set of all events (the seven watch guarantees), acknowledged writes
// against events and final states (Durable), the ends and remaining times of leases against renewals and leaders (Leases), holders
// of locks against both (Locks), hashes of members' states against each other (Hashes), lengths of queues against their bounds
// (Bounds), the tree of the v2 API against a model that follows the log, and its clients and watchers against that (V2Log, V2Linearizable,
// V2Watches, V2Expiries and others), and how soon everybody is served again after the last fault (Progress).
//
// It is not a client and runs nothing: recorded values come in, a Report goes out. It imports nothing of the store, so that
// the store and its judge cannot share a mistake, and has no clock, so that a simulator with its own time can use it:
// instants are numbers that only have to grow. The one exception is the limit of a search, which is a duration.
//
// Data passes so: clients record Operations and Watches; TruthOf merges all watches into the set of all events and finds
// where two watches disagree; Linearizable places every operation of the history; Watches checks each watch against the truth.
// Every other check is one function over slices of what was recorded, and needs no other to be run.
//
// Invariants: every write that changed something has a revision of its own, and revisions have no holes, so writes are
// totally ordered by what the store answered and the search has little to choose. An operation whose outcome is unknown
// is placed only where the truth holds a revision that no other operation claims; otherwise it has not happened. A report
// without violations means that an order was found, not that none was excluded.
package check
