// Package auth is who may do what: users, roles and their permissions as part of the replicated state, and the one function,
// View.May, that decides every request.
//
// It knows no passwords, tokens, certificates or sockets: an Identity that reaches it has been proved by somebody else
// (package authn), and a password is a hash that it stores and hands out. It has no clock and no randomness.
//
// Data passes like this. The one writer opens a Table from the engine, changes it while it applies commands, each change in
// the engine batch of its command, and publishes a View with every batch. Readers ask the View. The same function decides
// at the front, for reads, and at the place of a write in the log, where every member decides it on the same state.
//
// Invariants:
//   - A method that has no row in the table of methods is refused, and so is a request that does not say what a row asks about.
//   - What a user may read and write is kept as sorted intervals that do not touch, made when a role or a user changes and
//     when the table is opened; there is no cache beside them that could be older than the state.
//   - The buckets hold exactly the table, in etcd's keys and bytes. The same log gives the same bytes on every member.
//   - A View never changes.
package auth
