package audit

import (
	"net"
	"time"

	"quorate.dev/quorate/limits"
)

// Class says how much a request can change; see Log.Wants.
type Class uint8

// The classes, from what is recorded least often to what is recorded most often.
const (
	Read       Class = iota // reads data or asks about the member
	Write                   // changes data or leases
	Management              // changes users, roles, members, alarms, history, or hands out everything
)

// Event says what happened.
type Event uint8

// The events.
const (
	Call   Event = iota // a unary call was answered
	Open                // a stream was opened, or refused
	Create              // a watch was created on a stream, or refused
	Cancel              // a watch was cancelled by its client
	End                 // a stream ended
)

var eventNames = [...]string{"call", "open", "create", "cancel", "end"}

// Means is how a caller was identified.
type Means uint8

// The means.
const (
	Nobody Means = iota
	Token
	Certificate
)

var meansNames = [...]string{"none", "token", "certificate"}

// Action is what is done to a range of keys, or what a permission on it allows.
type Action uint8

// The actions. Get is also a watch and a comparison of a transaction; Both is a permission only.
const (
	Get Action = iota
	Put
	Delete
	Both
)

var actionNames = [...]string{"read", "put", "delete", "readwrite"}

// Caller is who asks.
type Caller struct {
	User   string // "" for nobody
	By     Means
	Remote net.Addr // nil when it is not known
}

// Object is what a request is about besides keys. Zero fields are not written.
type Object struct {
	Lease    int64
	Member   uint64 // which member a change of membership, of an alarm or of the leader concerns
	Compact  int64  // up to which revision history is to be forgotten
	HasWatch bool
	Watch    int64 // which watch of its stream
}

// Outcome is how it ended.
type Outcome struct {
	Denied   bool   // for lack of an identity or a permission; every other failure shows in Code alone
	Code     string // the name of the gRPC code
	Error    string // the text that the client got, "" for none; limits.AuditTextBytes of it are kept
	Took     time.Duration
	Revision int64 // of the answer, 0 when it has none
}

// Entry is what one line says. It comes from Log.Entry and belongs to the caller until it is given to Record or Discard.
type Entry struct {
	Time    time.Time // when it ended; Record fills in the present when it is zero
	Event   Event
	Method  string // full gRPC name
	Caller  Caller
	Object  Object
	Outcome Outcome

	spans [limits.AuditRanges]span
	count int    // of spans
	user  piece  // whom a request about users concerns
	role  piece  // which role a request about roles concerns
	more  int    // ranges that are not in spans
	bytes []byte // keys and range ends, one after the other
	lost  uint64 // entries missing before this one
}

// span is one range of keys, of which at most limits.AuditKeyBytes of each end are kept.
type span struct {
	action   Action
	key, end piece
}

// piece is a part of Entry.bytes.
type piece struct {
	at, kept int
	whole    int // length before it was cut
}

// Range adds what is done to the keys from key up to end, which is empty for the key alone, as in a RangeRequest. Both are
// copied. Beyond limits.AuditRanges, and when the entry has no more room, ranges are only counted.
func (e *Entry) Range(action Action, key, end []byte) {
	kept := min(len(key), limits.AuditKeyBytes) + min(len(end), limits.AuditKeyBytes)
	if e.count == len(e.spans) || len(e.bytes)+kept > limits.AuditEntryBytes {
		e.more++
		return
	}
	e.spans[e.count] = span{action, e.keep(key, limits.AuditKeyBytes), e.keep(end, limits.AuditKeyBytes)}
	e.count++
}

// TargetUser says whom a request about users concerns, or who wants to authenticate. The name is copied.
func (e *Entry) TargetUser(name []byte) { e.user = e.keep(name, limits.AuditTextBytes) }

// TargetRole says which role a request about roles concerns. The name is copied.
func (e *Entry) TargetRole(name []byte) { e.role = e.keep(name, limits.AuditTextBytes) }

// More counts further ranges without saying which.
func (e *Entry) More(ranges int) { e.more += ranges }

// Full says whether further ranges are only counted.
func (e *Entry) Full() bool { return e.count == len(e.spans) }

func (e *Entry) keep(b []byte, most int) piece {
	p := piece{len(e.bytes), min(len(b), most), len(b)}
	e.bytes = append(e.bytes, b[:p.kept]...)
	return p
}

func (e *Entry) text(p piece) []byte { return e.bytes[p.at : p.at+p.kept] }

// reset makes the entry ready for further use; its memory stays.
func (e *Entry) reset() { *e = Entry{bytes: e.bytes[:0]} }
