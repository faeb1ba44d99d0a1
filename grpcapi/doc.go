// Package grpcapi serves etcd's v3 services over package rpc: KV, Watch, Lease, Cluster, Maintenance, Auth, Lock, Election,
// and gRPC's own health and reflection.
//
// It decides nothing about state and knows no raft. It validates a request, counts its cost against the quota, and either
// proposes the client's own bytes to the log or reads from a View behind the read barrier; then it fills in the header and
// turns errors into statuses. Which requests are allowed under an alarm is the state machine's decision.
//
// Every method stands behind a door (door.go), which finds out who asks and has package auth decide; what has to be decided by
// the same View as the answer is decided there. Writes carry the user's name into the log, where they are decided again.
//
// Data passes like this. Put, DeleteRange, Txn and small reads run on the connection's reader: nothing there blocks. A
// write's answer is encoded when the apply goroutine completes it, by an object that is used again for the next request.
// Ranges that could hold the reader up go to a fixed set of workers. Streams, Lock, Election and maintenance have a
// goroutine of their own, because they wait.
//
// Invariants:
//   - Every call is answered exactly once.
//   - A method without a row in auth's table is refused. Nobody is shown a key that the View it is read from does not permit,
//     also not by a watch that was permitted once. Passwords are neither proposed nor kept.
//   - Error texts and codes are etcd's, through one door (statusOf); what this version cannot do says so in one sentence.
//   - The quota is checked before the fields of a request, as etcd does.
//   - Memory that a request takes is bounded by the request, not by what it would match: a large answer is written in
//     pieces while the connection takes them.
package grpcapi
