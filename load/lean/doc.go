// Package lean is the gRPC client of the product's own parts: the load generator, which with a few microseconds of CPU a call
// measures a server instead of itself; the proxy, which passes calls and streams of its clients on with their metadata; and
// discovery, which asks another cluster a few questions.
//
// It is not a client for applications. It does not retry, balance, compress or resolve names beyond what package net does,
// a connection that is lost stays lost, and callers must not block in callbacks. Applications use go.etcd.io/etcd/client/v3.
//
// How data passes: Call encodes a request straight into the connection's output buffer and returns; nothing is sent before
// Flush, so that many calls leave in one system call. One goroutine per connection reads, and runs the Completion or Handler
// of whatever arrived, handing out the bytes as they lie in its buffer. What callbacks call in turn is flushed when the
// reader is through with what it read, so a closed loop needs no Flush at all but the first. A call is named by a Method and
// carries the connection's token, or by a Header, which brings metadata of its own (CallWith, OpenWith); nothing is paid for
// that by calls without one. A Paced stream holds its server back until Credit says that what came is dealt with.
//
// Invariants: a Completion accepted by Call is completed exactly once, on the connection's reader, also when the connection
// is lost; callbacks of one connection never run at the same time; bytes handed out are valid only during the callback; a
// peer that sends nonsense ends the connection with an error that names the endpoint, and can make the client hold no more
// than the bounds in limits.go. The frames are HTTP/2's (RFC 9113) as gRPC uses them (PROTOCOL-HTTP2.md).
package lean
