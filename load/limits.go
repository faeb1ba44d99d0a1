package load

import "time"

// The bounds of a run.
const (
	ConnectionsMax  = 10_000  // connections of one run
	ClientsMax      = 1 << 20 // clients of a closed loop
	InFlightMax     = 1 << 20 // requests under way in an open loop
	InFlightDefault = 20_000
	KeysMax         = 1 << 32 // keys of a key space
	ValueBytesMax   = 1 << 30
	KeyBytesMax     = 64 << 10
	WatchersMax     = 1 << 20
	LeasesMax       = 1 << 24
	Endless         = int64(1) << 60 // a Total that is never reached: the workload ends the run
	TimelineSeconds = 24 * 60 * 60   // of a run's timeline; later seconds count in the totals only
	ErrorTexts      = 20             // different error texts kept; the rest is counted together
)

// Times.
const (
	LateAfter       = 10 * time.Millisecond  // a request sent so long after its intended start counts as late
	PaceQuantum     = 100 * time.Microsecond // shortest wait of the pacer
	RedialFirst     = 100 * time.Millisecond // pause before a lost connection is dialled again
	RedialMax       = 2 * time.Second        // and the longest
	DurationDefault = 10 * time.Second       // of a run that names neither a duration nor a total
	DeliveryWait    = 30 * time.Second       // without any event, after which the missing ones are reported as lost
)

// The histogram covers 1 ns to over an hour.
const (
	subBits    = 6 // 64 buckets per doubling: half a bucket is 0.8%
	octaves    = 36
	bucketsAll = (octaves + 1) << subBits
)
