// Package watch delivers the events of the store to watchers: one hub, one shared log of events, and watchers that are
// cursors on that log.
//
// It does not decide who may watch (the caller passes a refusal in), it does not read requests from the network, and it
// never changes state. Data passes like this: the apply goroutine hands each revision's immutable EventBatch to Publish;
// the hub's own goroutine appends it to the log, finds the live watchers through an index of keys and intervals, encodes
// each event at most once, and offers every watcher its response through its stream's Sink. A watcher whose sink is full,
// or that started in the past, is behind: catch-up workers bring it forward from the log or, below the log, from a View.
//
// Invariants:
//   - Every event at or after a watcher's start revision that matches it is delivered exactly once, in order of revision,
//     and the events of one revision are never split over responses unless the client asked for fragments.
//   - A watcher is live exactly when its next revision is above the last revision of the log; live watchers are in the
//     index, the others are not.
//   - A progress response carries a revision up to which everything has been handed to the stream.
//   - A slow stream costs its own watchers only: nothing waits for it and nothing is queued for it beyond its sink.
package watch
