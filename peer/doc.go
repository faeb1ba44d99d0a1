// Package peer carries raft messages between the members of a cluster by etcd's peer protocol (contract 5.4), so that members
// of either kind understand each other.
//
// It is not raft and knows nothing of what a message means beyond which stream it belongs on. It does not decide who is a
// member: it is told by Add, Update and Remove. It delivers nothing twice on purpose and promises nothing about what it
// takes: raft repeats what is lost.
//
// Data passes two ways. Out: Send puts a message into the queue of one of the receiver's two streams; whoever serves the
// stream, which the receiver has asked for by GET, writes what the queue holds in one piece. A message for whose stream
// nobody has asked goes by POST, through a few workers. In: for every member two goroutines ask for its streams and give
// what arrives to the Receiver. So two members share four streams, two dialled by each.
//
// Invariants: every queue is bounded by messages and bytes, and what does not fit is dropped and reported as unreachable; a
// slow member harms only what goes to itself. Nothing of a message is changed or kept after it was written. A frame that is
// damaged or larger than it may be ends its connection, never the process.
package peer
