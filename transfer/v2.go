package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"path"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"

	"quorate.dev/quorate/internal/etcdwal"
	"quorate.dev/quorate/member"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/v2store"
	"quorate.dev/quorate/wire"
)

// Up to 3.5 etcd kept a tree besides its db: the keys of the v2 API, and the members. Before 3.5 the bucket of members can be ahead of
// the entry that the db says it covers. So both are found as etcd finds them: in the newest .snap file, and in the log after it.

// V2Part is what a member held of the v2 API.
type V2Part struct {
	Keys  int    `json:"keys"`  // files of users and of v2 authentication, at the entry that the db covers
	Index uint64 `json:"index"` // of the tree
}

// treePart is the tree of the v2 API.
type treePart struct {
	V2Part
	rows [][2][]byte // in our store; nil: there is no tree
}

// snapTree is the content of a .snap file (source: etcd v3.4 etcdserver/api/v2store).
type snapTree struct {
	Root         *v2Node
	CurrentIndex uint64
	WatcherHub   struct{ EventHistory struct{ Queue eventQueue } }
}

// v2Node is a node of the tree.
type v2Node struct {
	CreatedIndex, ModifiedIndex uint64
	ExpireTime                  time.Time
	Value                       string
	Children                    map[string]*v2Node // nil: it is a file
}

// eventQueue is a ring.
type eventQueue struct {
	Events      []*v2Event
	Size, Front int
}

// v2Event is one event of the history.
type v2Event struct {
	Action   string    `json:"action"`
	Node     *v2Extern `json:"node"`
	PrevNode *v2Extern `json:"prevNode"`
	Refresh  bool      `json:"refresh"`
}

// v2Extern is a node as events show it.
type v2Extern struct {
	Key        string     `json:"key"`
	Value      *string    `json:"value"`
	Dir        bool       `json:"dir"`
	Expiration *time.Time `json:"expiration"`
	TTL        int64      `json:"ttl"`
	Modified   uint64     `json:"modifiedIndex"`
	Created    uint64     `json:"createdIndex"`
}

func (x *v2Extern) node() *v2store.Node {
	if x == nil {
		return nil
	}
	n := &v2store.Node{Key: x.Key, Value: x.Value, Dir: x.Dir, TTL: x.TTL, Modified: x.Modified, Created: x.Created}
	if x.Expiration != nil {
		n.Expiration = x.Expiration.UnixNano()
	}
	return n
}

// list is the events in order.
func (q *eventQueue) list() (out []*v2store.Event) {
	for i := range min(max(q.Size, 0), len(q.Events)) {
		if e := q.Events[(max(q.Front, 0)+i)%len(q.Events)]; e != nil && e.Node != nil {
			out = append(out, &v2store.Event{Action: e.Action, Node: e.Node.node(), Prev: e.PrevNode.node(), Index: e.Node.Modified, Refresh: e.Refresh})
		}
	}
	return out
}

// maxV2Depth bounds how deep a tree is walked; JSON of more than 10,000 levels is not decoded anyway.
const maxV2Depth = 10_000

// nodes visits the tree, directories before what is in them.
func (n *v2Node) nodes() iter.Seq[*v2store.Node] {
	return func(yield func(*v2store.Node) bool) {
		if n != nil {
			n.visit("/", 0, yield)
		}
	}
}

func (n *v2Node) visit(at string, depth int, yield func(*v2store.Node) bool) bool {
	out := &v2store.Node{Key: at, Dir: n.Children != nil, Created: n.CreatedIndex, Modified: n.ModifiedIndex}
	if !out.Dir {
		out.Value = &n.Value
	}
	if !n.ExpireTime.IsZero() {
		out.Expiration = n.ExpireTime.UnixNano()
	}
	if !yield(out) || depth > maxV2Depth {
		return false
	}
	for _, name := range slices.Sorted(maps.Keys(n.Children)) {
		if child := n.Children[name]; child != nil && !child.visit(path.Join(at, name), depth+1, yield) {
			return false
		}
	}
	return true
}

func (n *v2Node) child(name string) *v2Node {
	if n == nil {
		return nil
	}
	return n.Children[name]
}

func (n *v2Node) children() map[string]*v2Node {
	if n == nil {
		return nil
	}
	return n.Children
}

// older reads what etcd before 3.6 has besides its db.
func (s *Source) older(ctx context.Context, snaps string) error {
	from, tree, err := s.newestSnap(snaps)
	if err != nil {
		return err
	}
	if from == 0 && s.survey.Start > 0 {
		return &etcdwal.DamageError{File: s.log.Dir(), Reason: fmt.Sprintf("the log begins after entry %d, and there is no .snap file in %s that says what was before", s.survey.Start, snaps)}
	}
	engine, err := storage.Open("tree", storage.Options{FS: vfs.NewMem()})
	if err != nil {
		return err
	}
	r := &replayer{engine: engine, batch: engine.NewBatch(), mark: uint64(s.facts.mark.Index), tr: translator{keepV2: true}}
	err = r.run(ctx, s, from, tree)
	if err == nil {
		err = s.takeTree(r)
	}
	return errors.Join(err, engine.Close())
}

// newestSnap is the newest .snap file at or below the mark that the log confirms, and the index that it is of; none gives 0.
func (s *Source) newestSnap(snaps string) (uint64, *snapTree, error) {
	files, err := etcdwal.Snaps(snaps)
	if err != nil {
		return 0, nil, err
	}
	for _, f := range files {
		if f.Index > uint64(s.facts.mark.Index) || !confirmed(s.survey.Snapshots, f) {
			continue
		}
		snap, err := etcdwal.ReadSnap(f.Path)
		if err != nil {
			return 0, nil, err
		}
		tree := &snapTree{}
		if err := json.Unmarshal(snap.GetData(), tree); err != nil || tree.Root == nil {
			return 0, nil, &etcdwal.DamageError{File: f.Path, Reason: fmt.Sprintf("its data are not the tree of the v2 API: %v", err)}
		}
		s.snap = f.Path
		return f.Index, tree, nil
	}
	return 0, &snapTree{}, nil
}

func confirmed(known []etcdwal.Snapshot, f etcdwal.SnapFile) bool {
	return slices.ContainsFunc(known, func(k etcdwal.Snapshot) bool { return k.Index == f.Index && k.Term == f.Term })
}

// replayer applies what the log says of members and of v2 keys, as the state machine will.
type replayer struct {
	engine *storage.Engine
	batch  *storage.Batch
	mark   uint64
	tr     translator
	table  *member.Table
	tree   *v2store.Store
	n      int
}

// publishEvery is after how many entries the tree may let go of events that it made.
const publishEvery = 1000

// run begins with what a snapshot says and applies the log up to the mark.
func (r *replayer) run(ctx context.Context, s *Source, from uint64, tree *snapTree) (err error) {
	if err := seed(r.batch, tree.Root.child("0")); err != nil {
		return fmt.Errorf("transfer: %s: %w", s.snap, err)
	}
	if r.tree, err = v2store.Restore(r.batch, tree.CurrentIndex, tree.Root.nodes(), tree.WatcherHub.EventHistory.Queue.list()); err != nil {
		return fmt.Errorf("transfer: %s: %w", s.snap, err)
	}
	if err := r.commit(); err != nil {
		return err
	}
	if r.table, err = member.Open(r.engine, maxLearners); err != nil {
		return err
	}
	err = s.log.Entries(ctx, from, func(e *raftpb.Entry) error {
		if e.GetIndex() > r.mark {
			return errEnough
		}
		if err := r.entry(e); err != nil {
			return err
		}
		if r.n++; r.n%publishEvery > 0 {
			return nil
		}
		r.tree.Publish()
		return r.commit()
	})
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	return r.commit()
}

func (r *replayer) commit() error {
	err := r.engine.Commit(r.batch, storage.Mark{})
	r.batch.Reset()
	return err
}

// ofMembers says what the tree counts of a change of membership, as package state does.
var ofMembers = map[member.ChangeKind]v2store.ClusterChange{
	member.Added: v2store.MemberAdded, member.Promoted: v2store.MemberUpdated, member.Updated: v2store.MemberUpdated, member.Removed: v2store.MemberRemoved,
}

// entry applies an entry. What is refused now was refused when it was made.
func (r *replayer) entry(e *raftpb.Entry) error {
	if e.GetType() == raftpb.EntryConfChange {
		if change, err := r.table.ApplyConfChange(r.batch, e.GetData()); err == nil {
			r.tree.Tick(r.batch, ofMembers[change.Kind])
		}
		return nil
	}
	e, err := r.tr.entry(e)
	if err != nil || len(e.GetData()) == 0 {
		return err
	}
	var in wire.Internal
	if err := in.Unmarshal(e.GetData()); err != nil {
		return fmt.Errorf("transfer: entry %d: %w", e.GetIndex(), err)
	}
	if err := r.request(&in); err != nil {
		return fmt.Errorf("transfer: entry %d: %w", e.GetIndex(), err)
	}
	return nil
}

func (r *replayer) request(in *wire.Internal) error {
	switch in.Field {
	case wire.FieldMemberAttrSet:
		var req wire.ClusterMemberAttrSetRequest
		if err := req.Unmarshal(in.Body); err != nil {
			return err
		}
		if r.table.SetAttributes(r.batch, memberID(req.MemberID), req.Name, req.ClientURLs) == nil {
			r.tree.Tick(r.batch, v2store.MemberPublished)
		}
	case wire.FieldClusterVersionSet:
		var req wire.ClusterVersionSetRequest
		if err := req.Unmarshal(in.Body); err != nil {
			return err
		}
		if r.table.SetVersion(r.batch, req.Ver) == nil {
			r.tree.Tick(r.batch, v2store.VersionSet)
		}
	case wire.FieldV2:
		var req wire.V2Request
		if err := req.Unmarshal(in.Body); err != nil {
			return err
		}
		_, _ = r.tree.Apply(r.batch, &req)
	}
	return nil
}

// takeTree remembers the outcome.
func (s *Source) takeTree(r *replayer) error {
	lower, upper := storage.BucketBounds(storage.BucketV2)
	it, err := r.engine.Iter(lower, upper)
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		s.tree.rows = append(s.tree.rows, [2][]byte{slices.Clone(it.Key()), slices.Clone(it.Value())})
	}
	if err := errors.Join(it.Err(), it.Close()); err != nil {
		return err
	}
	view := r.tree.Publish()
	for _, space := range []string{"/1", "/2"} {
		view.Walk(space, 0, func(n *v2store.Node) bool {
			if !n.Dir {
				s.tree.Keys++
			}
			return true
		})
	}
	s.tree.Index = r.tree.Index()
	if s.facts.hasTerm {
		return s.checkSelf()
	}
	return s.takeMembers(r.engine, r.table)
}

// addTree writes the tree into the store that is made.
func (s *Source) addTree(b *storage.Batch) error {
	for _, row := range s.tree.rows {
		b.Set(row[0], row[1])
	}
	return nil
}
