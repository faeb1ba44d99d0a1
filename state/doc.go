// Package state is the replicated state machine: it applies the commands of the log, in order, to keys, leases, members and
// alarms, and shows the result to readers.
//
// It does not know raft, clients, clocks or sockets. It gets decoded commands and returns, as values, their results and what
// they caused (Effects); whoever drives it hands those on. It decides nothing that is not in the log or in the state, so all
// members that apply the same log have the same state.
//
// Data passes like this. One goroutine, the apply goroutine, calls Apply with a batch of commands. Each command has one
// handler, which first checks and then changes; all changes of the batch go into one engine batch, which is committed together
// with the index and term of the last command. Then a View of everything is published with one atomic store, and Apply
// returns. Readers on any goroutine take the View and keep it as long as they like. Background removes, in bounded steps
// between batches, what compactions left behind. There is one way to open a state, Open, for a start and for a snapshot that
// was received.
//
// Invariants:
//   - The engine never holds a part of a command, and always says which entries it covers.
//   - After a handler's first change nothing in it can fail; a refused command changes nothing, and is refused the same way
//     on every member, whatever bytes it holds.
//   - A View is of one instant: keys, leases, members, alarms and applied index belong together.
//   - After a failure of the disk nothing is applied any more.
//
// DESIGN.md in this directory has the longer story.
package state
