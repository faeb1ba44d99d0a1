package fan

import "time"

// What a proxy holds.
const (
	logBytesAll    = 256 << 20 // events in the logs of all groups, bytes, as long as each may have logBytesMin
	logBytesMax    = 8 << 20   // of one group
	logBytesMin    = 64 << 10  // of one group, however many there are
	chunkBytesMin  = 4 << 10   // first piece of a log
	chunkBytesMax  = 256 << 10 // later pieces; a revision that is larger gets a piece of its own
	chunksLeast    = 8         // pieces of a full log, at least
	roundBytes     = 256 << 10 // events that gather for the live watchers of a group before they are handed out
	requestsMax    = 256       // requests of one session that are not settled before the next one has to wait
	repliesMax     = 1024      // replies that wait for a full stream before requests are settled no more
	watchersMax    = 1 << 20   // watchers of one session
	letterBytesMax = 4 << 20   // capacity kept for letters, bytes; what may wait in one is bounded by the streams' windows
	soloSharePart  = 2         // a lone watcher joins its group when it is within this part of the log's end
)

// When a feed tries again.
const (
	retryFirst    = 20 * time.Millisecond // before the second attempt to open a stream
	retryMax      = 2 * time.Second
	progressRetry = 200 * time.Millisecond // a progress request without an answer is made again: etcd drops some
	progressIdle  = 10 * time.Second       // between two that keep the groups' positions fresh, so that a resume finds its revision
)

// startNever is the first revision that a probe would see.
const startNever = int64(1) << 62
