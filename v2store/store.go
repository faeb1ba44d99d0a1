package v2store

import (
	"fmt"
	"slices"

	"github.com/google/btree"

	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wire"
)

// Store is the tree that requests change. It is for one goroutine.
type Store struct {
	tree    nodes
	due     *btree.BTreeG[*node] // those of the tree that expire, the earliest first
	shadow  nodes                // v3 keys that cannot be shown, by the paths that they would have
	head    head
	bytes   int64
	events  []*Event // the newest, at least limits.V2HistoryEvents of them when there are as many
	fresh   []*Event // since the last Publish
	started bool     // there are rows
	view    *View    // nil when it is out of date
	batch   *storage.Batch
	now     int64 // of the running request
}

// head is what the store is besides its nodes.
type head struct {
	index  uint64
	now    int64 // the latest time that a request told
	mode   Mode
	counts Counts
}

// permanent is the number of nodes that always exist: /, /0 and /1.
const permanent = 3

// New returns an empty store in memory: batches may be nil.
func New() *Store {
	s := &Store{tree: newNodes(), due: btree.NewG(degree, byExpiry), shadow: newNodes()}
	for _, p := range [permanent]string{"/", Cluster, Keys} {
		s.tree.ReplaceOrInsert(&node{path: p, dir: true})
	}
	return s
}

// Started says whether a request was ever applied. A store that was not started has no rows.
func (s *Store) Started() bool { return s.started }

// Mode is the mode after the last request.
func (s *Store) Mode() Mode { return s.head.mode }

// Index is the index after the last request.
func (s *Store) Index() uint64 { return s.head.index }

// Events lists what happened since the last Publish, in order. It is valid until the next Publish; what it points to may be kept.
func (s *Store) Events() []*Event { return s.fresh }

// Publish gives the store as it is.
func (s *Store) Publish() *View {
	if s.view != nil {
		return s.view
	}
	s.fresh = nil
	v := &View{tree: nodes{s.tree.Clone()}, head: s.head, bytes: s.bytes, events: slices.Clip(s.history())}
	if n, ok := s.due.Min(); ok {
		v.next = n.expires
	}
	s.view = v
	return v
}

// history is the events that are kept, ascending.
func (s *Store) history() []*Event { return s.events[max(0, len(s.events)-limits.V2HistoryEvents):] }

// Apply executes one request: methods PUT, POST, DELETE, QGET, SYNC and MODE as the fields say. The event is the answer; that of
// SYNC and MODE has no node. A refusal is a *Error. What happened, more than one event perhaps, is added to Events. MODE "shared"
// needs the keys and is not for Apply but for Share.
func (s *Store) Apply(b *storage.Batch, r *wire.V2Request) (*Event, error) {
	s.begin(b)
	s.head.now = max(s.head.now, r.Time)
	if s.now = r.Time; s.now == 0 {
		s.now = s.head.now
	}
	e, err := s.dispatch(r)
	s.saveHead()
	if err != nil {
		return nil, err
	}
	return e, nil
}

// begin makes b the batch of what follows, and starts a store that was not.
func (s *Store) begin(b *storage.Batch) {
	s.batch, s.view = b, nil
	if s.started {
		return
	}
	s.started = true
	for _, e := range s.history() {
		s.saveEvent(e)
	}
}

func (s *Store) dispatch(r *wire.V2Request) (*Event, *Error) {
	if err := s.checkPath(r); err != nil {
		return nil, err
	}
	switch r.Method {
	case "PUT":
		return s.put(r)
	case "POST":
		return s.post(r)
	case "DELETE":
		return s.delete(r)
	case "QGET":
		e, err := (&View{tree: s.tree, head: s.head}).get(r.Path, r.Recursive, s.now)
		count(err, &s.head.counts.GetsSuccess, &s.head.counts.GetsFail)
		return e, err
	case "SYNC":
		s.expire(r.Time)
		return &Event{Action: ActionExpire, Index: s.head.index}, nil
	case "MODE":
		return s.separate(r)
	}
	return nil, NewError(CodeRaftInternal, fmt.Sprintf("etcdserver: unknown method %q", r.Method), s.head.index)
}

// put chooses what a PUT is, as etcd does.
func (s *Store) put(r *wire.V2Request) (*Event, *Error) {
	compared := r.PrevIndex > 0 || r.PrevValue != ""
	c := &s.head.counts
	var e *Event
	var err *Error
	switch {
	case r.PrevExist != nil && !*r.PrevExist:
		e, err = s.create(r)
		count(err, &c.CreateSuccess, &c.CreateFail)
	case compared:
		e, err = s.compareAndSwap(r)
		count(err, &c.CompareAndSwapSuccess, &c.CompareAndSwapFail)
	case r.PrevExist != nil:
		e, err = s.update(r)
		count(err, &c.UpdateSuccess, &c.UpdateFail)
	default:
		e, err = s.set(r)
		count(err, &c.SetsSuccess, &c.SetsFail)
	}
	return e, err
}

func (s *Store) post(r *wire.V2Request) (*Event, *Error) {
	own := *r
	own.Path = unique(r.Path, s.head.index+1)
	e, err := s.create(&own)
	count(err, &s.head.counts.CreateSuccess, &s.head.counts.CreateFail)
	return e, err
}

// unique is the path of the node that a POST to a directory makes.
func unique(dir string, index uint64) string { return fmt.Sprintf("%s/%020d", dir, index) }

func (s *Store) delete(r *wire.V2Request) (*Event, *Error) {
	c := &s.head.counts
	if r.PrevIndex > 0 || r.PrevValue != "" {
		e, err := s.compareAndDelete(r)
		count(err, &c.CompareAndDeleteSuccess, &c.CompareAndDeleteFail)
		return e, err
	}
	e, err := s.remove(r)
	count(err, &c.DeleteSuccess, &c.DeleteFail)
	return e, err
}

// count counts a request. etcd counts some refusals as successes, because its counting does not see them; so they are here.
func count(err *Error, success, fail *uint64) {
	if err == nil || err.lost {
		*success++
	} else {
		*fail++
	}
}

// record takes an event into the history. Its index is the store's next one.
func (s *Store) record(e *Event) *Event {
	s.head.index++
	if e.Index != s.head.index {
		panic(fmt.Sprintf("BUG: v2 event %d follows index %d", e.Index, s.head.index-1))
	}
	if len(s.events) >= 2*limits.V2HistoryEvents {
		s.events = append(make([]*Event, 0, 2*limits.V2HistoryEvents), s.events[len(s.events)-limits.V2HistoryEvents:]...)
	}
	s.events = append(s.events, e)
	s.fresh = append(s.fresh, e)
	s.saveEvent(e)
	if old := int64(e.Index) - limits.V2HistoryEvents; old > 0 {
		s.dropEvent(uint64(old))
	}
	return e
}

// insert puts a node into the tree, in the place of one of the same path.
func (s *Store) insert(n *node) {
	if old, ok := s.tree.ReplaceOrInsert(n); ok {
		s.bytes -= old.bytes()
		s.due.Delete(old)
	}
	s.bytes += n.bytes()
	if n.expires != 0 {
		s.due.ReplaceOrInsert(n)
	}
	s.saveNode(n)
}

// drop takes a node out of the tree. Those below it are gone already.
func (s *Store) drop(n *node) {
	s.tree.Delete(n)
	s.bytes -= n.bytes()
	if n.expires != 0 {
		s.due.Delete(n)
	}
	s.dropRow(rowNode, n.path)
}
