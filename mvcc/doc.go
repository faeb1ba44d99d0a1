// Package mvcc is the multi-version key-value store: it gives every change a revision, finds any key at any revision that
// is not compacted, and says what each revision changed.
//
// It is not a database of its own: bytes go to a storage.Batch that the caller commits, and it has no clock, no goroutine
// and no lock. It does not know leases (it reports which keys changed them), users, or the raft log.
//
// Data passes like this. The one writer calls Store.Begin, changes keys through the Tx, and gets the revision's EventBatch
// from Tx.End. When the engine batch is committed it calls Store.Publish, which makes the View that readers of any
// goroutine use until the next one. Current values are in memory in the form in which they are sent (the bytes of
// mvccpb.KeyValue); older ones are read from the engine by revision.
//
// Invariants:
//   - A View never changes. Readers take no lock and neither wait for the writer nor hold it up.
//   - A record in memory is the record on disk, byte for byte.
//   - The same commands give the same revisions, records, events and answers on every member.
//   - Compaction costs what it removes, not what the store holds.
//
// DESIGN.md in this directory tells how and why.
package mvcc
