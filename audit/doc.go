// Package audit writes the audit log: one line of JSON for what somebody asked of this member, with who it was, on which keys,
// what was decided and how long it took.
//
// It decides nothing and reads no requests: package grpcapi fills in an Entry. It is not the log of the server, and it is not
// durable as data is: lines are written as they come and not forced to the disk. Passwords, tokens, hashes and values have no
// field here, so they cannot be written.
//
// Data passes like this. Who serves a call takes an Entry from the Log, fills it in, and gives it back with Record when the
// call is answered. Record puts it into a bounded queue. One goroutine takes entries from the queue, writes their lines and
// returns the entries for further use.
//
// Invariants:
//   - Record never blocks, whatever the file does. What does not fit the queue, or could not be written, is counted, and the
//     next line says how many entries are missing.
//   - Every line is one JSON object, whatever bytes a client sent; what it says is what was recorded. The names of fields are
//     documented in docs/SECURITY.md and stay.
//   - The memory of an entry is bounded (limits.AuditEntryBytes), and so is the length of a line.
//   - A full disk or a file that cannot be written stops nothing but the log.
package audit
