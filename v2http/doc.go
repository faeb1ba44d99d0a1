// Package v2http serves etcd's v2 API: everything under /v2/ on the client port (keys, members, machines, stats, auth).
//
// It keeps no data and decides nothing about the tree: what a request means for it is package v2store's, what watchers get is
// package v2hub's. It opens no listener; package httpapi passes it requests when the API is on, and answers 404 when it is not.
//
// How data passes: a request for a key is parsed into a wire.V2Request, its sender is found out and allowed or refused, and then
// it is either proposed to the group (writes and quorum reads), read from the newest View (plain reads, which may be stale as
// they are in etcd), or becomes a watcher. The answer is the event as JSON with etcd's headers. Users and roles of v2 are files
// of the same tree below /2, written by proposals like any other.
//
// Invariants:
//   - Statuses, headers and bodies are those of etcd 3.4 (source: etcdserver/api/v2http, v2auth and v2error of release-3.4), byte
//     for byte, apart from the rows of docs/COMPAT.md.
//   - A client that does not read, or goes away, holds its own goroutine and its watcher's bounded queue, nothing else.
//   - No body is read beyond its bound, and no password is logged or compared in the clear.
//   - While v3 authentication is on and the tree is shared with v3, it alone decides: a read here, on the View that answers it,
//     a write where it stands in the log, under the name that the request was proposed with.
package v2http
