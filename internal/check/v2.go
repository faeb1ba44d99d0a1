package check

import (
	"fmt"
	"strings"
)

// V2Request is one request of the v2 API. Paths are those inside of the store: /1/a is /a to users. Times are Unix nanoseconds.
type V2Request struct {
	Method      string // PUT, POST, DELETE, GET, QGET (a reading that is in the log), SYNC, MODE
	Path, Value string
	Dir         bool
	PrevValue   string // "": not given
	PrevIndex   uint64 // 0: not given
	PrevExist   *bool  // nil: not given
	Refresh     bool
	Recursive   bool
	TTL         int64 // seconds that the client asked for, 0 for none
	Expiration  int64 // that a member made of it, 0 for none
	Time        int64 // that a member added
}

// String is the request in one line.
func (r V2Request) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", r.Method, r.Path)
	if r.Value != "" {
		fmt.Fprintf(&b, "=%q", short(r.Value))
	}
	for _, f := range []struct {
		name string
		set  bool
	}{{"dir", r.Dir}, {"recursive", r.Recursive}, {"refresh", r.Refresh}} {
		if f.set {
			b.WriteString(" " + f.name)
		}
	}
	if r.PrevExist != nil {
		fmt.Fprintf(&b, " prevExist=%t", *r.PrevExist)
	}
	if r.PrevValue != "" {
		fmt.Fprintf(&b, " prevValue=%q", r.PrevValue)
	}
	if r.PrevIndex != 0 {
		fmt.Fprintf(&b, " prevIndex=%d", r.PrevIndex)
	}
	if r.Expiration != 0 {
		fmt.Fprintf(&b, " until %d", r.Expiration)
	}
	return b.String()
}

// V2Node is a file or a directory as it is shown.
type V2Node struct {
	Key               string
	Value             string
	Shown             bool // the value
	Dir               bool
	Expiration        int64 // Unix time in nanoseconds, 0 for never
	TTL               int64 // seconds that are left, rounded up
	Modified, Created uint64
	Nodes             []V2Node
}

// String is the node in one line.
func (n V2Node) String() string {
	text := fmt.Sprintf("{%s", n.Key)
	if n.Shown {
		text += fmt.Sprintf("=%q", short(n.Value))
	}
	if n.Dir {
		text += " dir"
	}
	if n.Expiration != 0 {
		text += fmt.Sprintf(" until %d", n.Expiration)
	}
	if n.TTL != 0 {
		text += fmt.Sprintf(" ttl %d", n.TTL)
	}
	text += fmt.Sprintf(" modified %d created %d", n.Modified, n.Created)
	if len(n.Nodes) > 0 {
		text += fmt.Sprintf(" %v", n.Nodes)
	}
	return text + "}"
}

// V2Event is an answer, or a change that watchers see.
type V2Event struct {
	Index   uint64
	Action  string
	Node    V2Node
	Prev    *V2Node
	Refresh bool // watchers do not see it
}

// String is the event in one line. Two events are the same if these are.
func (e V2Event) String() string {
	text := fmt.Sprintf("[%d %s %v", e.Index, e.Action, e.Node)
	if e.Prev != nil {
		text += fmt.Sprintf(" before: %v", *e.Prev)
	}
	if e.Refresh {
		text += " refresh"
	}
	return text + "]"
}

// V2Refusal is an answer that refuses. Code 0 is a refusal that is not the store's: nothing happened, and it is not judged here.
type V2Refusal struct {
	Code  int
	Cause string
	Index uint64
}

// String is the refusal in one line.
func (r V2Refusal) String() string { return fmt.Sprintf("%d (%s) at %d", r.Code, r.Cause, r.Index) }

// V2Op is one request of one client. Call and Return are instants of one clock for all clients.
type V2Op struct {
	Client       int
	Via          string // the life of a member that answered
	Call, Return int64  // Return is Never when the outcome is not known
	Request      V2Request
	Local        bool     // a reading that may be of the past
	Event        *V2Event // the answer
	Refusal      *V2Refusal
}

// String names the operation so that it can be found in a history.
func (o *V2Op) String() string {
	text := fmt.Sprintf("client %d: %v [%d to %d] -> ", o.Client, o.Request, o.Call, o.Return)
	switch {
	case o.Return == Never:
		return text + "not answered"
	case o.Refusal != nil:
		return text + o.Refusal.String()
	case o.Event != nil:
		return text + o.Event.String()
	}
	return text + "done"
}

// index is that of the answer, 0 without one.
func (o *V2Op) index() uint64 {
	switch {
	case o.Return == Never:
		return 0
	case o.Refusal != nil:
		return o.Refusal.Index
	case o.Event != nil:
		return o.Event.Index
	}
	return 0
}

// V2Change is a change of one v3 key.
type V2Change struct {
	Key    string
	Value  string
	Delete bool
}

// V2Entry is an entry of the log that has to do with the tree, in the order of the log.
type V2Entry struct {
	Entry   uint64     // its index in the log
	At      int64      // the instant at which the first member applied it
	Request *V2Request // nil: the entry is no request of the v2 API
	Index   uint64     // of the store in the answer
	Refusal *V2Refusal // nil: it was not refused
	Changes []V2Change // of v3 keys, in order: all that begin with a slash
	Cluster int        // indices that it takes because it changes members or the version
}
