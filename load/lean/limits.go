package lean

// The bounds of a connection.
const (
	StreamWindow     = 16 << 20   // receive window of one stream, bytes
	ConnWindow       = 1 << 30    // receive window of a connection, bytes; always replenished
	StallWindow      = 64 << 10   // receive window of a stream on a connection that was dialled with Stall, bytes
	MessageBytesMax  = 2<<30 - 1  // a response assembled in memory, bytes (as etcd's clients)
	CallsWaitingMax  = 1 << 18    // calls waiting because the server's MAX_CONCURRENT_STREAMS is reached
	SendQueueBytes   = 64 << 20   // bytes of one stream that wait for the server's window before Send refuses
	headerBlockBytes = 64 << 10   // one compressed header block with its CONTINUATIONs, bytes
	headerTableBytes = 4096       // the dynamic tables of both directions, bytes (HTTP/2's default)
	readBytesMin     = 64 << 10   // the input buffer at first, bytes
	readBytesMax     = 1 << 20    // the input buffer once reads fill it, bytes
	bufferKeep       = 1 << 20    // buffers above this capacity are not kept for the next use, bytes
	streamsKept      = 4096       // finished calls kept for the next ones
	blocksKept       = 4          // decoded header blocks kept, so that equal answers decode for free
	sweepsPerTimeout = 8          // how often per timeout the reader looks for calls that took too long
	headersKept      = 256        // Headers whose encoding a connection remembers
	headerBytesMax   = 60 << 10   // one Header, counted as HTTP/2 does, bytes: servers take 64 KiB at most
	streamIDMax      = 1<<31 - 64 // a connection that used so many stream ids takes no more calls
)

// HTTP/2's defaults, before the peer's SETTINGS say otherwise.
const (
	defaultWindow = 65535
	defaultFrame  = 16384
	frameHeader   = 9
	messageHeader = 5  // gRPC: one byte of flags, four of length
	fieldOverhead = 32 // HTTP/2 counts that for a header field besides name and value
)
