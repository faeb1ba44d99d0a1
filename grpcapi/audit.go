package grpcapi

import (
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"quorate.dev/quorate/audit"
	"quorate.dev/quorate/auth"
	"quorate.dev/quorate/authn"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/rpc"
	"quorate.dev/quorate/state"
	"quorate.dev/quorate/wire"
)

// denials are the errors that refuse somebody for who they are or what they may do. They are recognised by their texts, which is
// how they come back from the log, and from Lock and Election, which change their codes.
var denials = func() map[string]*fault.Error {
	m := map[string]*fault.Error{}
	for _, e := range []*fault.Error{fault.PermissionDenied, fault.UserEmpty, fault.InvalidAuthToken, fault.AuthOldRevision, fault.AuthFailed, fault.NoPasswordUser} {
		m[e.Text] = e
	}
	return m
}()

// witness follows one call or stream for the audit log, from its arrival to its end.
type witness struct {
	log    *audit.Log
	row    *auditRow
	stream bool

	mu     sync.Mutex
	entry  *audit.Entry // nil once it is given to the log
	class  audit.Class
	opened bool // the stream was let in
}

// exchange is what calls and streams have in common for a witness.
type exchange interface {
	metadata
	Method() string
	Peer() net.Addr
	SetWitness(rpc.Witness)
	Witness() rpc.Witness
}

// attend has the audit log follow a call, or a stream, which has no msg yet.
func (v *Services) attend(x exchange, msg []byte, stream bool) {
	row := auditRowOf(x.Method())
	w := &witness{log: v.Audit, row: row, stream: stream, entry: v.Audit.Entry(), class: row.class}
	w.entry.Method, w.entry.Caller.Remote = x.Method(), x.Peer()
	if !stream {
		w.class = row.fill(w.entry, msg)
	}
	x.SetWitness(w)
}

// witnessOf is the witness of a call or stream, nil when it has none or is over.
func witnessOf(x exchange) *witness {
	at := x.Witness()
	if c, ok := at.(*counted); ok {
		at = c.next
	}
	w, _ := at.(*witness)
	return w
}

// identified tells the witness of a request who sent it.
func identified(c authn.Caller, view *state.View, who auth.Identity) {
	x, ok := c.(exchange)
	if !ok {
		return
	}
	w := witnessOf(x)
	if w == nil {
		return
	}
	by := audit.Nobody
	switch {
	case who.User == "":
	case view.Auth.Enabled() && authn.HasToken(c):
		by = audit.Token
	default:
		by = audit.Certificate
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.entry != nil {
		w.entry.Caller.User, w.entry.Caller.By = who.User, by
	}
}

// open writes that a stream was let in. w may be nil.
func (w *witness) open() {
	if w == nil {
		return
	}
	e := w.sibling(audit.Open)
	w.mu.Lock()
	w.opened = true
	w.mu.Unlock()
	w.finish(e, w.row.class, nil)
}

// ask adds what the only message of a server's stream asks for. w may be nil.
func (w *witness) ask(msg []byte) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.entry != nil {
		w.class = w.row.fill(w.entry, msg)
	}
}

// watch writes that a watch of a stream was made or cancelled. id is nil when nobody knows it, and 0 when the server chooses.
// refusal is why the client may not, "" when it may. w may be nil.
func (w *witness) watch(event audit.Event, id *int64, key, end []byte, refusal string) {
	if w == nil {
		return
	}
	e := w.sibling(event)
	if id != nil && (*id != limits.WatchIDAuto || event == audit.Cancel) {
		e.Object.Watch, e.Object.HasWatch = *id, true
	}
	if event == audit.Create || refusal != "" {
		e.Range(audit.Get, key, end)
	}
	var st *rpc.Status
	if refusal != "" {
		_, text, _ := strings.Cut(refusal, " desc = ") // a reason is the whole text of a gRPC error
		st = statusOf(fault.PermissionDenied)
		if denial := denials[text]; denial != nil {
			st = statusOf(denial)
		}
	}
	w.finish(e, w.row.class, st)
}

// sibling is an entry for something else that the same client does on the same stream.
func (w *witness) sibling(event audit.Event) *audit.Entry {
	e := w.log.Entry()
	w.mu.Lock()
	defer w.mu.Unlock()
	e.Event = event
	if w.entry != nil {
		e.Method, e.Caller = w.entry.Method, w.entry.Caller
	}
	return e
}

// Replied implements rpc.Witness.
func (w *witness) Replied(m rpc.Message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.entry.Outcome.Revision = revisionOf(m)
	if granted, ok := m.(*grantReply); ok {
		w.entry.Object.Lease = granted.ID
	}
}

// Ended implements rpc.Witness.
func (w *witness) Ended(st *rpc.Status, took time.Duration) {
	w.mu.Lock()
	e := w.entry
	if e == nil { // told before: whoever took its place came when the exchange was just over (see count)
		w.mu.Unlock()
		return
	}
	w.entry = nil
	if w.stream && w.opened {
		e.Event = audit.End
	} else if w.stream {
		e.Event = audit.Open
	}
	class := w.class
	w.mu.Unlock()
	e.Outcome.Took = took
	w.finish(e, class, st)
}

// finish gives an entry to the log, if that wants it.
func (w *witness) finish(e *audit.Entry, class audit.Class, st *rpc.Status) {
	e.Outcome.Code = rpc.OK.String()
	if st != nil {
		e.Outcome.Code, e.Outcome.Error = st.Code.String(), st.Message
		e.Outcome.Denied = denials[st.Message] != nil
	}
	if !e.Outcome.Denied && !w.log.Wants(class) {
		w.log.Discard(e)
		return
	}
	w.log.Record(e)
}

// revisionOf is the revision in the header of an answer, 0 when it has none.
func revisionOf(m rpc.Message) int64 {
	switch m := m.(type) {
	case *wire.PutResponse:
		return m.Header.Revision
	case *wire.RangeResponse:
		return m.Header.Revision
	case *wire.DeleteRangeResponse:
		return m.Header.Revision
	case *wire.TxnResponse:
		return m.Header.Revision
	case *headerReply:
		return m.Revision
	case *grantReply:
		return m.Header.Revision
	case rpc.RawMessage:
		return encodedRevision(m)
	}
	return 0
}

// encodedRevision reads field 3 of the header, which is field 1 of every answer that has one.
func encodedRevision(m []byte) (rev int64) {
	num, typ, n := protowire.ConsumeTag(m)
	if n < 0 || num != 1 || typ != protowire.BytesType {
		return 0
	}
	header, _ := protowire.ConsumeBytes(m[n:])
	_ = eachField(header, func(num protowire.Number, typ protowire.Type, n uint64, _ []byte) error {
		if num == 3 && typ == protowire.VarintType {
			rev = int64(n)
		}
		return nil
	})
	return rev
}
