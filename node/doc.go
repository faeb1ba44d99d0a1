// Package node hosts one member of a raft group: it proposes commands, makes the log durable, applies what is committed to
// a state machine in batches, and answers whoever proposed. DESIGN.md beside this file draws it.
//
// It is not the state machine (state), not the log on disk (wal), and it does not know what a command means. It sees all of
// these through the small interfaces Machine, Log, Engine and Transport. Consensus itself is go.etcd.io/raft/v3, driven
// with asynchronous storage writes.
//
// Data passes down and comes back. Propose encodes a command into the open chunk of proposals; a turn of the loop takes a
// whole chunk and steps it into raft; raft's storage messages go to the appender, which writes everything queued with one
// sync, and its responses return to the next turn; committed entries go to the applier, which gives them to the machine in
// one batch and then completes the waiters. Under load these overlap on three goroutines; a lone proposal is one goroutine's
// work. Nobody calls up: what must be known elsewhere is an Observer function, which only reports.
//
// Invariants:
//   - A waiter is answered exactly once; with a result only after the entry was durable in the log, committed, and applied
//     to the machine, in log order.
//   - After a failure of log or engine nothing is acknowledged and nothing is tried again. Err says what failed.
//   - An entry is applied exactly once in the life of the state: raft begins at the machine's own mark.
//   - Every queue is bounded: by the bounds on pending proposals and reads, or by raft's bound on what is being applied.
package node
