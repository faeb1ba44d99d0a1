// Package fan serves the watches of many clients from few watches of the store: watchers that ask for the same keys with the
// same credentials and options are one watch upstream, whose events are received once, kept once, and spliced into what each
// watcher gets.
//
// It is not a cache that outlives its watchers and decides nothing about permissions: credentials are part of what is shared,
// and the store is asked about every watcher when it is created. It neither chooses endpoints nor dials.
//
// How data passes: a client's stream is a session of the feed of its credentials. A feed is one goroutine that owns everything
// of these credentials; clients' requests and the store's messages reach it as letters in its mailbox. On the shared upstream
// stream each group (one range with one set of options) has one watch, which starts at its present. Its events go to the
// group's log, and from there to the live watchers, all that came in one round as one message each: a head of their own and a
// body that all share. A watcher whose client does not read is moved on by itself, from the log, when its stream has room. One
// that wants what the log does not have any more is watched for alone, on an upstream stream that belongs to its session and is
// held back when the client is slow, until it has reached what the log holds.
//
// A new watcher of an existing group is announced upstream by a probe, a watch of the same keys that starts at the end of time
// and is cancelled at once: the answer says whether these credentials may watch these keys now, and gives a revision that lies
// between the watcher's request and its reply. Probes of watchers that arrive together are one.
//
// Invariants:
//   - A watcher gets every event at or after its start that matches, once, in order of revision, the events of one revision in
//     one message unless its client asked for fragments. Its `created` comes before its first event, and the replies to the
//     requests of a session come in the order of the requests.
//   - A progress answer carries a revision up to which everything was handed to the session's stream.
//   - All of a feed but its mailbox belongs to its goroutine, which never waits for a client or for the store.
//   - Bytes in a log never change once they are written; they may be referred to by any number of streams.
//   - What a feed holds is bounded by limits.go, whatever clients and the store do; the store is held back by not giving its
//     streams' receive windows back.
package fan
