package v2store

import (
	"encoding/json"
	"strconv"
)

// The actions of events.
const (
	ActionGet              = "get"
	ActionCreate           = "create"
	ActionSet              = "set"
	ActionUpdate           = "update"
	ActionDelete           = "delete"
	ActionCompareAndSwap   = "compareAndSwap"
	ActionCompareAndDelete = "compareAndDelete"
	ActionExpire           = "expire"
)

// Event is the answer to a request and, when that changed something, what watchers see. It is immutable.
type Event struct {
	Action  string
	Node    *Node
	Prev    *Node  // nil when there was none
	Index   uint64 // of the store after it; for a change the same as Node.Modified
	Refresh bool   // a new time of expiration and nothing else: kept in the history, shown to no watcher

	// Removed lists the nodes that a delete or an expiration took away, children before parents. It is for live watchers only and is
	// not kept over a restart.
	Removed []Removed
	// Mirrored says that the event follows a change of the v3 keys, which have it already.
	Mirrored bool
}

// Removed is one node that is gone.
type Removed struct {
	Path string
	Dir  bool
}

// Created says whether the answer is 201 and not 200.
func (e *Event) Created() bool {
	return e.Action == ActionCreate || e.Action == ActionSet && e.Prev == nil
}

// Node is a file or a directory as the API shows it. It is immutable.
type Node struct {
	Key        string // a path inside of the store; "" is left out of JSON
	Value      *string
	Dir        bool
	Expiration int64 // Unix time in nanoseconds, 0 for never
	TTL        int64 // seconds that were left when it was read, rounded up; it may be negative
	Nodes      []*Node
	Modified   uint64
	Created    uint64
}

// MarshalJSON writes the event as the API does: action, node, prevNode.
func (e *Event) MarshalJSON() ([]byte, error) {
	b := appendText([]byte(`{"action":`), e.Action)
	if e.Node != nil {
		b = e.Node.appendJSON(append(b, `,"node":`...))
	}
	if e.Prev != nil {
		b = e.Prev.appendJSON(append(b, `,"prevNode":`...))
	}
	return append(b, '}'), nil
}

// MarshalJSON writes the node as the API does, without what is zero.
func (n *Node) MarshalJSON() ([]byte, error) { return n.appendJSON(nil), nil }

func (n *Node) appendJSON(b []byte) []byte {
	b = append(b, '{')
	first := len(b)
	name := func(s string) {
		if len(b) > first {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), s...), `":`...)
	}
	if n.Key != "" {
		name("key")
		b = appendText(b, n.Key)
	}
	if n.Value != nil {
		name("value")
		b = appendText(b, *n.Value)
	}
	if n.Dir {
		name("dir")
		b = append(b, "true"...)
	}
	if n.Expiration != 0 {
		name("expiration")
		b = append(appendTime(append(b, '"'), n.Expiration), '"')
	}
	if n.TTL != 0 {
		name("ttl")
		b = strconv.AppendInt(b, n.TTL, 10)
	}
	if len(n.Nodes) > 0 {
		name("nodes")
		b = appendNodes(b, n.Nodes)
	}
	if n.Modified != 0 {
		name("modifiedIndex")
		b = strconv.AppendUint(b, n.Modified, 10)
	}
	if n.Created != 0 {
		name("createdIndex")
		b = strconv.AppendUint(b, n.Created, 10)
	}
	return append(b, '}')
}

func appendNodes(b []byte, nodes []*Node) []byte {
	b = append(b, '[')
	for i, n := range nodes {
		if i > 0 {
			b = append(b, ',')
		}
		b = n.appendJSON(b)
	}
	return append(b, ']')
}

func appendText(b []byte, s string) []byte {
	text, err := json.Marshal(s)
	if err != nil {
		panic("BUG: a string has no JSON: " + err.Error())
	}
	return append(b, text...)
}

const (
	nanosPerSecond = 1_000_000_000
	secondsPerDay  = 24 * 60 * 60
)

// appendTime writes a Unix time in nanoseconds as RFC 3339 has it, in UTC, with the fraction's zeros at the end left out. Pure
// packages have no package time; the days are counted as in Howard Hinnant's chrono-compatible date algorithms.
func appendTime(b []byte, nanos int64) []byte {
	seconds, fraction := floor(nanos, nanosPerSecond)
	days, second := floor(seconds, secondsPerDay)
	era, ofEra := floor(days+719468, 146097)
	years := (ofEra - ofEra/1460 + ofEra/36524 - ofEra/146096) / 365
	ofYear := ofEra - (365*years + years/4 - years/100)
	shifted := (5*ofYear + 2) / 153
	day, month, year := ofYear-(153*shifted+2)/5+1, shifted+3, years+era*400
	if month > 12 {
		month, year = month-12, year+1
	}
	b = append(digits(b, year, 4), '-')
	b = append(digits(b, month, 2), '-')
	b = append(digits(b, day, 2), 'T')
	b = append(digits(b, second/3600, 2), ':')
	b = append(digits(b, second/60%60, 2), ':')
	b = digits(b, second%60, 2)
	if fraction > 0 {
		b = digits(append(b, '.'), fraction, 9)
		for b[len(b)-1] == '0' {
			b = b[:len(b)-1]
		}
	}
	return append(b, 'Z')
}

func floor(a, by int64) (quotient, rest int64) {
	quotient, rest = a/by, a%by
	if rest < 0 {
		return quotient - 1, rest + by
	}
	return quotient, rest
}

func digits(b []byte, v int64, width int) []byte {
	at := len(b)
	for range width {
		b = append(b, '0')
	}
	for i := at + width - 1; i >= at; i-- {
		b[i] = byte('0' + v%10)
		v /= 10
	}
	return b
}
