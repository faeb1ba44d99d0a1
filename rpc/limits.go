package rpc

import "time"

// What the server grants a peer, and what it holds for one.
const (
	frameBytes       = 16 << 10  // largest frame payload sent and accepted: HTTP/2's smallest maximum, which keeps streams fair
	streamWindow     = 1 << 20   // receive window of one stream, bytes
	connWindow       = 8 << 20   // receive window of a connection, bytes; always replenished, so it bounds only bytes in flight
	headerListBytes  = 64 << 10  // SETTINGS_MAX_HEADER_LIST_SIZE: names + values + 32 a field, bytes
	headerBlockBytes = 128 << 10 // one compressed header block with its CONTINUATIONs, bytes
	headerFrames     = 32        // frames of one header block
	hpackTableBytes  = 4096      // the peer's dynamic table kept here, bytes: HTTP/2's default

	heldBytes       = 64 << 20 // unread request bytes and headers one connection may make the server hold
	exchangeBytes   = 1 << 10  // charged to heldBytes per open stream: its structures
	inboxMessages   = 4096     // unread messages of one stream: bounds the cost of tiny ones
	abandonedMax    = 10_000   // calls a peer reset whose handlers have not answered yet, per connection
	webRequestsMax  = 256      // requests of one connection inside the http.Handler
	closedRemember  = 128      // ids of recently ended streams remembered per connection, to judge late frames
	requestsCached  = 4        // decoded header blocks kept per connection, so that equal requests decode for free
	blocksKnown     = 4        // header blocks remembered byte by byte per connection
	knownBlockBytes = 64       // longest of them, bytes
	requestCachable = 4 << 10  // header blocks above this decoded size are not kept, bytes
)

// What waits to be sent.
const (
	outHighWater    = 256 << 10       // framed bytes waiting for the socket above which data stays in the streams' own queues
	outPause        = 1 << 20         // framed bytes waiting for the socket above which the reader stops reading
	outboxBytes     = 1 << 20         // bytes queued on one stream before Send waits and TrySend refuses
	outboxConn      = 16 << 20        // bytes queued on all streams of a connection before TrySend refuses and Send waits
	repliesConn     = 64 << 20        // bytes queued on a connection above which new calls are refused: the peer does not read
	writeChunk      = 64 << 10        // bytes of one blocking write, each with its own deadline
	recordBytes     = 16 << 10        // most that TLS puts into one record
	writeTurn       = 1 << 20         // bytes a goroutine that serves many connections writes to one in a row
	webBufferBytes  = 16 << 10        // bytes of an HTTP answer gathered before they are sent
	webIdleTimeout  = 2 * time.Minute // an HTTP/1.1 connection without requests is closed after this
	outBuffer       = 64 << 10        // framed bytes in one output buffer, give or take a frame
	outSpare        = 512             // room looked for before a frame of no known size
	outBufferSmall  = 4 << 10         // capacity of the output buffer of a connection that has little to say, bytes
	outboxLeast     = 128             // first size of an outbox's own piece, bytes
	outboxPiece     = 16 << 10        // small messages are gathered up to this size of a piece, bytes
	outboxList      = 64              // pieces whose list an empty outbox keeps
	messageLeast    = 16 << 10        // smallest buffer of a message that is larger than a frame, bytes
	messageClasses  = 9               // such buffers are pooled in powers of two up to messageLeast << 8: 4 MiB
	bodyStallMax    = time.Minute
	replyStallMax   = 5 * time.Minute // a finished reply whose window does not open for so long is reset
	lingerTime      = time.Second     // how long a connection that got an error keeps reading, so that GOAWAY arrives
	lingerBytes     = 1 << 20         // and how much
	sweepMax        = time.Second     // longest period of the sweep over connections
	sweepMin        = 5 * time.Millisecond
	drainPingWait   = time.Second            // wait for the answer to the ping between the two GOAWAYs
	crowdTime       = 100 * time.Millisecond // after a refusal readers take turns for so long
	pingDelay       = 25 * time.Millisecond  // an answer to a ping waits so long for answers to calls to leave with
	deadlineGrain   = 2 * time.Millisecond
	stallCheck      = 10 * time.Second // period of looking for exchanges that do not move
	idlePingMinTime = 2 * time.Hour    // between pings of a client without streams, unless permitted: grpc-go does the same
	pingStrikesMax  = 2                // pings that come too early before GOAWAY
)

// Budgets of events which cost the peer nothing: see guard.go. Every answered call earns some back.
const (
	resetBurst  = 1000 // rapid resets at once
	resetRefill = 200  // and per second
	noiseBurst  = 4000 // frames that carry nothing at once
	noiseRefill = 1000 // and per second
	noiseHeavy  = 40   // tokens of a SETTINGS frame, which may touch every stream, and of a header list that is too large
	noisePing   = 1    // tokens of a PING: it is answered
	noiseEarned = 2    // tokens of noise that an answered call earns back
)
