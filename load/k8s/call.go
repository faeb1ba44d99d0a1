package k8s

import (
	"errors"
	"time"

	"quorate.dev/quorate/load/lean"
	"quorate.dev/quorate/wire"
)

// call is one call under way. The driver makes and sends it, the reader of its connection completes it, and the driver gets it back
// through the inbox.
type call struct {
	d     *driver
	class class
	id    int64 // of the object; of an API server for lists and compactions
	stage int   // of a pod
	at    time.Duration
	rev   int64 // that was known of the object
	quiet bool  // not counted
	list  *listing
	scan  pageScan // of a list

	answer outcome
}

// outcome is what came of a call.
type outcome struct {
	err       error
	succeeded bool
	revision  int64 // of the store
	known     int64 // of the object as it is now, 0: it does not exist
	version   int64 // of the object as it is now
	lease     int64 // granted
	at        time.Duration
}

// errAnswer is an answer that cannot be right.
var errAnswer = errors.New("the answer does not fit the request")

// Done implements lean.Completion.
func (x *call) Done(body []byte, err error) {
	now := x.d.now()
	x.answer = outcome{err: err, at: now}
	if err == nil {
		x.answer.err = x.read(body)
	}
	x.finish(now)
}

func (x *call) finish(now time.Duration) {
	if !x.quiet {
		x.d.rec.Load().call(x.class, x.at, now, x.answer.err)
	}
	x.d.inbox.put(x)
}

// read takes the answer.
func (x *call) read(body []byte) error {
	switch x.class {
	case grantLeases:
		return x.readGrant(body)
	case getPods, getNodes, revisions:
		var r wire.RangeResponse
		if err := r.Unmarshal(body); err != nil {
			return err
		}
		x.answer.revision = r.Header.Revision
		if len(r.KVs) > 0 {
			x.answer.known = wire.ModRevisionOf(r.KVs[0])
		}
		return nil
	case compactStore:
		return nil
	}
	return x.readTxn(body)
}

func (x *call) readTxn(body []byte) error {
	var r wire.TxnResponse
	if err := r.Unmarshal(body); err != nil {
		return err
	}
	x.answer.succeeded, x.answer.revision = r.Succeeded, r.Header.Revision
	if r.Succeeded || len(r.Responses) == 0 {
		return nil
	}
	got := r.Responses[0].Range
	if got == nil || len(got.KVs) > 1 {
		return errAnswer
	}
	if len(got.KVs) == 1 {
		x.answer.known, x.answer.version = wire.ModRevisionOf(got.KVs[0]), wire.VersionOf(got.KVs[0])
	}
	return nil
}

// readGrant takes a LeaseGrantResponse, of which only the lease's number is looked at.
func (x *call) readGrant(body []byte) error {
	// LeaseGrantResponse and LeaseKeepAliveResponse have the header, the number and the TTL in the same fields.
	var r wire.LeaseKeepAliveResponse
	if err := r.Unmarshal(body); err != nil {
		return err
	}
	if x.answer.lease = r.ID; r.ID == 0 {
		return errAnswer
	}
	return nil
}

// Message implements lean.Handler; pieces come instead.
func (x *call) Message([]byte) {}

// Piece implements lean.PieceHandler.
func (x *call) Piece(p []byte, _ int) { x.scan.feed(p) }

// End implements lean.Handler.
func (x *call) End(err error) {
	now := x.d.now()
	x.answer = outcome{err: err, at: now, revision: x.scan.revision}
	if err == nil && !x.scan.whole() {
		x.answer.err = errAnswer
	}
	x.finish(now)
}

// message is what a call sends; it is valid until the next one is made.
func (d *driver) message(x *call) (lean.Method, lean.Message) {
	m := &d.making
	m.key, m.value = m.key[:0], m.value[:0]
	if x.list != nil {
		return x.list.page(m)
	}
	space := d.space(x.id)
	id := identity{at: x.at}
	switch x.class {
	case createPods, updatePods:
		m.key = d.keys.pod(m.key, space, x.id)
		id.pod, id.space, id.node = x.id, space, d.nodeOf(x.id)
		m.value = d.objects.pods[podSize(x.id)][x.stage].appendTo(m.value, id, d.objects.noise)
		return m.optimistic(x.rev, x.class == updatePods)
	case deletePods:
		m.key = d.keys.pod(m.key, space, x.id)
		return m.remove(x.rev)
	case updateLeases, createLeases:
		m.key, id.node = d.keys.lease(m.key, x.id), x.id
		m.value = d.objects.lease.appendTo(m.value, id, d.objects.noise)
		return m.optimistic(x.rev, x.class == updateLeases)
	case updateNodes, createNodes:
		m.key, id.node = d.keys.node(m.key, x.id), x.id
		m.value = d.objects.node.appendTo(m.value, id, d.objects.noise)
		return m.optimistic(x.rev, x.class == updateNodes)
	case createEvents:
		m.key = d.keys.event(m.key, space, x.id, x.rev)
		id.pod, id.space, id.node = x.id, space, d.nodeOf(x.id)
		m.value = d.objects.event.appendTo(m.value, id, d.objects.noise)
		method, msg := m.optimistic(0, false)
		m.put.Lease = d.eventLease.id
		return method, msg
	case grantLeases:
		ttl := int64(d.o.Times.EventTTL / time.Second)
		return lean.LeaseGrant, &wire.LeaseGrantRequest{TTL: ttl + min(ttl/20, int64(reuseLeaseFor/time.Second))}
	case getPods:
		return m.read(d.keys.pod(m.key, space, x.id))
	case getNodes:
		return m.read(d.keys.node(m.key, x.id))
	case revisions:
		return m.read(append(m.key, compactKey...))
	case updateCompact:
		return m.compact(x.rev, d.compaction[x.id].revision)
	case compactStore:
		return lean.Compact, &wire.CompactionRequest{Revision: x.rev}
	}
	panic("no message for " + kinds[x.class].verb + " " + kinds[x.class].resource) // every class is listed above
}

// podSize is 0 for a large pod, 1 for a small one: every fifth is small.
func podSize(pod int64) int {
	if pod%5 == 4 {
		return 1
	}
	return 0
}

// making is memory for one request: a request is encoded before the next one is made.
type making struct {
	key, value []byte
	txn        wire.TxnRequest
	put        wire.PutRequest
	get        wire.RangeRequest
	del        wire.DeleteRangeRequest
	compare    [1]wire.Compare
	then, els  [1]wire.RequestOp
}

// Field numbers of Compare's union.
const (
	fieldVersion     = 4
	fieldModRevision = 6
)

// optimistic is the API server's write: put if the key's revision is the one known. Updates ask for the key as it is otherwise.
func (m *making) optimistic(rev int64, readElse bool) (lean.Method, lean.Message) {
	m.put = wire.PutRequest{Key: m.key, Value: m.value}
	return m.when(rev, wire.RequestOp{Put: &m.put}, readElse)
}

// remove deletes if the key's revision is the one known, and asks for the key as it is otherwise.
func (m *making) remove(rev int64) (lean.Method, lean.Message) {
	m.del = wire.DeleteRangeRequest{Key: m.key}
	return m.when(rev, wire.RequestOp{DeleteRange: &m.del}, true)
}

func (m *making) when(rev int64, then wire.RequestOp, readElse bool) (lean.Method, lean.Message) {
	m.compare[0] = wire.Compare{Result: wire.CompareEqual, Target: wire.CompareMod, Key: m.key, Union: fieldModRevision, Number: rev}
	m.then[0] = then
	m.txn = wire.TxnRequest{Compare: m.compare[:], Success: m.then[:]}
	if readElse {
		m.get = wire.RangeRequest{Key: m.key}
		m.els[0] = wire.RequestOp{Range: &m.get}
		m.txn.Failure = m.els[:]
	}
	return lean.Txn, &m.txn
}

// read is a consistent read of one key.
func (m *making) read(key []byte) (lean.Method, lean.Message) {
	m.key = key
	m.get = wire.RangeRequest{Key: key, Limit: 1}
	return lean.Range, &m.get
}

// compactKey is where API servers agree on who compacts.
const compactKey = "compact_rev_key"

// compact claims a compaction: the key's version is the number of the round.
func (m *making) compact(version, revision int64) (lean.Method, lean.Message) {
	m.key = append(m.key[:0], compactKey...)
	m.value = appendInt(m.value[:0], revision)
	m.put, m.get = wire.PutRequest{Key: m.key, Value: m.value}, wire.RangeRequest{Key: m.key}
	m.compare[0] = wire.Compare{Result: wire.CompareEqual, Target: wire.CompareVersion, Key: m.key, Union: fieldVersion, Number: version}
	m.then[0], m.els[0] = wire.RequestOp{Put: &m.put}, wire.RequestOp{Range: &m.get}
	m.txn = wire.TxnRequest{Compare: m.compare[:], Success: m.then[:], Failure: m.els[:]}
	return lean.Txn, &m.txn
}
