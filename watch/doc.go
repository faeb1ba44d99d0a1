// Package watch delivers the events of the store to watchers: one hub, one shared log of events, and watchers that are
// cursors on that log.
//
// It does not decide who may watch (the caller passes a refusal in), it does not read requests from the network, and it
// never changes state. Data passes like this: the apply goroutine hands each revision's immutable EventBatch to Publish;
// the hub's own goroutine appends it to the log, finds the intervals concerned through an index of keys and intervals, and
// encodes what an interval got once for each form its watchers want (with previous values, without puts, ...). Each of its
// watchers is offered a response that is a head of its own and that shared body, through its stream's Sink; streams are
// flushed when all have theirs. A watcher whose sink is full, or that started in the past, is behind: catch-up workers
// bring it forward from the log or, below the log, from a View, and those that follow each other share bodies as well.
// A hub that is Config.Driven has no goroutines: its caller does the same pieces of work with Step, when he likes.
//
// Invariants:
//   - Every event at or after a watcher's start revision that matches it is delivered exactly once, in order of revision,
//     and the events of one revision are never split over responses unless the client asked for fragments.
//   - A watcher is live exactly when its next revision is above the last revision of the log; live watchers are in the
//     index, the others are not.
//   - A progress response carries a revision up to which everything has been handed to the stream.
//   - A slow stream costs its own watchers only: nothing waits for it, nothing is queued for it beyond its sink, and no
//     work is done for it until its sink has room.
//   - A body that was given to a sink never changes.
//   - In a driven hub, what is offered to which sink in which order follows from the calls, the clock, the views and the
//     sinks' answers alone: no random number and no order of a map has a part in it.
package watch
