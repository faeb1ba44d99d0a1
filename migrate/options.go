package migrate

import (
	"fmt"
	"io"
	"time"

	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/member"
)

// TTL says what becomes of keys that expire.
type TTL int

// The choices.
const (
	Permanent TTL = iota // they stay for ever: what etcd does
	Drop                 // they are left out
	Lease                // they get leases with the time that is left of them
)

// ttlNames are the values of the flag.
var ttlNames = [...]string{Permanent: "permanent", Drop: "drop", Lease: "lease"}

// String is "permanent", "drop" or "lease".
func (t TTL) String() string { return ttlNames[t] }

// ParseTTL reads what String writes.
func ParseTTL(text string) (TTL, error) {
	for t, name := range ttlNames {
		if name == text {
			return TTL(t), nil
		}
	}
	return 0, fmt.Errorf("migrate: what should become of keys that expire is %q: permanent, drop or lease", text)
}

// Kind is where keys go.
type Kind int

// The kinds.
const (
	Nowhere  Kind = iota // a dry run
	DataDir              // a new data directory of ours
	Snapshot             // a new file in etcd's snapshot format
	InPlace              // the db file of the source
)

// String names a kind for people and for JSON.
func (k Kind) String() string {
	return [...]string{"none", "data directory", "snapshot file", "source"}[k]
}

// Target is where keys go.
type Target struct {
	Kind Kind
	Path string // of a data directory or file
	// LogDir is where the log of a new data directory lies, "" for inside.
	LogDir string
	// Self and Members are those of the cluster that a new data directory begins.
	Self    member.Member
	Members []member.Member
}

// Options says what to migrate and how.
type Options struct {
	DataDir string // of etcd
	LogDir  string // "" is member/wal in DataDir

	Transformer string        // a program; "" is the default transformer
	Patience    time.Duration // how long the program may neither read nor write; 0 is DefaultPatience
	Stderr      io.Writer     // the program's

	TTL        TTL
	SkipClash  bool // leave out a record whose key or revision another one has, instead of failing
	KeepOthers bool // go on though the source has keys of the v3 API, which stay where they are
	Target     Target

	Clock clock.Clock
	// Say is told the lines that etcd prints.
	Say func(line string)
	// Progress, if not nil, is told at the start of each stage and from time to time.
	Progress func(Progress)
}

// DefaultPatience is how long a transformer may neither read nor write.
const DefaultPatience = time.Minute

// Stage is a part of the work.
type Stage int

// The stages, in order.
const (
	Reading      Stage = iota // entries of the log
	Transforming              // nodes
	Writing                   // records
	Verifying                 // records
)

// String names a stage for people.
func (s Stage) String() string {
	return [...]string{"reading", "transforming", "writing", "verifying"}[s]
}

// Progress is how far a migration is.
type Progress struct {
	Stage       Stage
	Done, Total int64 // in what the stage counts
}

// Lines that etcd prints.
const (
	sayDefault  = "using default transformer"
	sayFinished = "finished transforming keys"
	sayNone     = "no v2 keys to migrate"
	sayFailed   = "failed to transform keys"
)
