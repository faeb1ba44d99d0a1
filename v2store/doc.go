// Package v2store is the tree of etcd's v2 API: directories and files with indices, times of expiration, compare-and-swap, and
// the history of events.
//
// It is not the API (v2http has the parameters, headers and credentials), it delivers nothing (v2hub has the watchers), and it
// has no clock: times come in requests as Unix nanoseconds. Paths are those inside of the store, with their namespace: /1/foo is
// /foo to users, /2 holds the users and roles of v2 authentication, and /0, where etcd keeps its members, is only counted.
//
// Data passes like this. One goroutine calls Apply with the requests of the log in order, and Tick for changes of the cluster.
// Each writes rows to the engine's batch and makes events. Publish gives a View, immutable and for any goroutine, and Events what
// happened since. The tree is one flat ordered map from paths to nodes that are never changed, of which a View is a copy in O(1).
//
// Invariants:
//   - The same requests give the same tree, events and rows, on every member.
//   - A refused request changes nothing but a counter of the statistics.
//   - Every change of the index is one event, so the history has no gaps.
//   - The parent of every node is a directory that is in the tree.
//   - Before the first request there are no rows. The index then follows from the members (Assume), so a store whose v2 API is
//     never used pays nothing for it, and one that is used begins where etcd's would.
package v2store
