// Package rpc is a gRPC server over HTTP/2 whose cost per call is small: requests are decoded and handled on the
// connection's own reader, answers are given by completion from any goroutine, and the bytes of many answers leave in one write.
//
// It is not a general gRPC framework: it knows no protobuf, no interceptors, no client. It knows nothing of the store
// either: methods are registered by name, messages are byte slices. Requests that are not gRPC, over HTTP/1.1 or HTTP/2,
// go to one http.Handler on the same port.
//
// # How data passes
//
//	socket -> input (pooled buffer) -> http2.Framer -> conn.dispatch -> exchange.role (Call, Stream or web)
//	Call:   handler runs on the reader; Reply encodes straight into conn.w.out, or queues when a window is closed
//	Stream: messages wait in a bounded inbox; the handler has its own goroutine
//	conn.w.out, full -> flush: one holder of the write token writes all that is pending, without ever blocking a goroutine that
//	serves other connections; what a full socket does not take is finished by a goroutine of that connection alone
//
// # Invariants
//
//   - conn.mu protects the stream table, every send window, every queue and the output buffer. Nothing blocks while
//     holding it and no handler, observer of the caller's or NotifyWritable function runs under it, except Observer's
//     counters and Message.Append of small messages, which must not call back.
//   - Bytes in conn.w.out are complete frames in their final order; they are written exactly once, by the holder of conn.w.busy.
//   - Header blocks are appended to conn.w.out in the order they are encoded, so the peer's HPACK table equals what
//     conn.w.table says.
//   - An exchange is in conn.streams from its HEADERS until both sides ended or it was reset; after that nothing is sent on it.
//   - What one connection can make the server hold is bounded by the constants in limits.go.
//
// DESIGN.md in this directory has the longer story.
package rpc
