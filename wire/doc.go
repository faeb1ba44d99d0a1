// Package wire holds the messages that the store's hot paths read and write, as plain structs with hand-written protobuf
// codecs: requests and responses of KV, Watch and Lease, the key-value record, and the entry of the replicated log.
//
// It is not a protobuf library and knows no reflection, registry or JSON: messages that are rare stay with the generated
// types of go.etcd.io/etcd/api/v3. It also does not judge what a message asks for; that is the front's and the state
// machine's work.
//
// Data passes through without copies. Unmarshal leaves byte fields aliasing its input. Key-value records travel as bytes
// in their final form: a stored record is spliced into a response as it lies in memory, and a client's request bytes are
// spliced into a log entry.
//
// Invariants, each held by a differential test against the generated types: Unmarshal accepts exactly the inputs that
// proto.Unmarshal accepts and reads the same values from them (unknown fields and fields of another wire type are skipped,
// the last scalar wins, repeated occurrences of one sub-message merge, strings are UTF-8, at most 10,000 levels nest);
// Append writes exactly what proto's deterministic Marshal writes. Exceptions, on purpose: an all-zero Header is left
// out rather than written as an empty message, but for a nested transaction's response, where it is always written; and
// Internal does not look inside its body.
package wire
