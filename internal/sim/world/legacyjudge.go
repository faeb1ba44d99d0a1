package world

import (
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/check"
	"quorate.dev/quorate/internal/sim/disk"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/state"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/v2store"
	"quorate.dev/quorate/wire"
)

// remember keeps, for the judge of the v2 API, what a member has applied, the first time; and compares what other members make of it.
// before is what this one had applied before.
func (w *World) remember(m *Member, before ids.Index, cmds []command.Command, results []command.Result, effects *state.Effects) {
	if !w.old() {
		return
	}
	j := &w.legacy.judged
	w.happened(m, effects.V2)
	events := effects.Events
	for i := range cmds {
		c, r := &cmds[i], &results[i]
		if c.Index <= before {
			continue
		}
		var changes []check.V2Change
		var batches []*mvcc.EventBatch
		for ; len(events) > 0 && events[0].Revision <= r.Revision; events = events[1:] {
			batches = append(batches, events[0])
			changes = append(changes, slashed(events[0])...)
		}
		if c.Index <= j.frontier {
			continue
		}
		j.frontier = c.Index
		w.entry(c, r, changes, batches)
	}
}

// entry keeps one entry.
func (w *World) entry(c *command.Command, r *command.Result, changes []check.V2Change, batches []*mvcc.EventBatch) {
	j := &w.legacy.judged
	e := check.V2Entry{Entry: uint64(c.Index), At: w.instant(), Changes: changes}
	switch c.Kind {
	case command.V2:
		var q wire.V2Request
		if err := q.Unmarshal(c.Body); err != nil {
			w.broken("a request of the v2 API in the log cannot be decoded: %v", err)
			return
		}
		request := v2request(&q)
		e.Request = &request
		var refused *v2store.Error
		switch {
		case errors.As(r.Err, &refused):
			e.Refusal = &check.V2Refusal{Code: refused.Code, Cause: refused.Cause, Index: refused.Index}
		case r.Err != nil:
			e.Refusal = &check.V2Refusal{}
		case r.V2 != nil:
			e.Index = r.V2.Index
		}
		w.spend(batches)
	case command.ConfChange, command.ClusterVersion, command.MemberAttributes:
		if e.Cluster = ticks(c); r.Err != nil {
			return
		}
	default:
		if len(changes) == 0 {
			return
		}
	}
	j.entries = append(j.entries, e)
}

// ticks are the indices that a change of the cluster takes.
func ticks(c *command.Command) int {
	if c.Kind != command.ConfChange {
		return 1
	}
	var change raftpb.ConfChange
	if err := proto.Unmarshal(c.Body, &change); err != nil {
		panic(err)
	}
	if change.GetType() == raftpb.ConfChangeRemoveNode {
		return 2
	}
	return 1
}

// happened takes events that a member had. They must be the same for all.
func (w *World) happened(m *Member, events []*v2store.Event) {
	j := &w.legacy.judged
	for _, e := range events {
		known := v2event(e)
		text := known.String()
		first := e.Index
		if len(j.events) > 0 {
			first = j.events[0].Index
		}
		switch at := int64(e.Index) - int64(first); {
		case at == int64(len(j.events)):
			j.events, j.texts = append(j.events, known), append(j.texts, text)
			w.counts.V2Events++
		case at < 0 || at > int64(len(j.events)):
			w.violate("v2 event", "%s has the event %s when %d are known from index %d on", m.name, text, len(j.events), first)
		case j.texts[at] != text:
			w.violate("v2 event", "%s has the event %s; another member had %s", m.name, text, j.texts[at])
		}
	}
}

// spend gives what a request of the v2 API did to v3 keys a place in the history of all: it happened when it was applied first.
func (w *World) spend(batches []*mvcc.EventBatch) {
	for _, b := range batches {
		q, a := check.Request{Kind: check.Txn}, check.Answer{Revision: int64(b.Revision), Succeeded: true}
		for _, kv := range decoded(b) {
			if kv.gone {
				q.Then = append(q.Then, check.Request{Kind: check.Delete, Key: kv.key})
				a.Parts = append(a.Parts, check.Answer{Count: 1})
			} else {
				q.Then = append(q.Then, check.Request{Kind: check.Put, Key: kv.key, Value: kv.value})
				a.Parts = append(a.Parts, check.Answer{})
			}
		}
		w.legacy.spent = append(w.legacy.spent, check.Operation{Client: 500, Call: w.instant(), Return: w.instant(), Request: q, Answer: a})
	}
}

type keyChange struct {
	key, value string
	gone       bool
}

func decoded(b *mvcc.EventBatch) (out []keyChange) {
	for i := range b.Events {
		kv := &mvccpb.KeyValue{}
		if err := proto.Unmarshal(b.Events[i].KV, kv); err != nil {
			panic(err)
		}
		out = append(out, keyChange{string(kv.Key), string(kv.Value), b.Events[i].Type == wire.EventDelete})
	}
	return out
}

// slashed is what happened to keys that begin with a slash.
func slashed(b *mvcc.EventBatch) (out []check.V2Change) {
	for _, c := range decoded(b) {
		if strings.HasPrefix(c.key, "/") {
			out = append(out, check.V2Change{Key: c.key, Value: c.value, Delete: c.gone})
		}
	}
	return out
}

func v2request(q *wire.V2Request) check.V2Request {
	return check.V2Request{
		Method: q.Method, Path: q.Path, Value: q.Val, Dir: q.Dir, PrevValue: q.PrevValue, PrevIndex: q.PrevIndex, PrevExist: q.PrevExist,
		Refresh: q.Refresh != nil && *q.Refresh, Recursive: q.Recursive, Expiration: q.Expiration, Time: q.Time,
	}
}

// inspect looks at what a member holds of the v2 tree: the rows of two members after one entry must be the same to the byte, and in shared
// mode files must be the v3 keys.
func (w *World) inspect(m *Member, index ids.Index) {
	if !w.old() || w.stopped {
		return
	}
	w.share(m)
	if index%32 != 0 && !w.quiet {
		return
	}
	rows, err := m.storedTree()
	if err != nil {
		if life := m.life; w.rot.of == m || m.cutting && errors.Is(err, disk.ErrPowerLost) {
			w.after(0, func() { m.enter(life, func() { m.ended(err) }) })
			return
		}
		w.broken("the v2 tree of %s at index %d cannot be read: %v", m.name, index, err)
		return
	}
	other, ok := w.legacy.rows[index]
	switch {
	case !ok:
		w.legacy.rows[index] = stateHash{m.name, rows}
	case other.hash != rows:
		w.violate("divergence", "%s and %s differ in the rows of the v2 tree at index %d: %08x and %08x", other.member, m.name, index, other.hash, rows)
		w.stopped = true
	}
}

// storedTree is a hash of all rows of the v2 tree.
func (m *Member) storedTree() (hash uint32, err error) {
	image := m.state.Image()
	defer func() { err = errors.Join(err, image.Close()) }()
	it, err := image.Frozen.Iter(storage.BucketBounds(storage.BucketV2))
	if err != nil {
		return 0, err
	}
	for ok := it.First(); ok; ok = it.Next() {
		hash = crc32.Update(crc32.Update(hash, crc32.IEEETable, it.Key()), crc32.IEEETable, append(it.Value(), 0xff))
	}
	return hash, it.Close()
}

// share compares files and v3 keys of one member.
func (w *World) share(m *Member) {
	v := m.state.View()
	if v.V2.Mode() != v2store.Shared {
		return
	}
	keys, files := map[string]string{}, map[string]string{}
	resp, err := v.Range(&wire.RangeRequest{Key: []byte{'/'}, RangeEnd: []byte{'0'}})
	if err != nil {
		w.violate("broken", "%s cannot be read: %v", m.name, err)
		return
	}
	for _, b := range resp.KVs {
		keys[string(wire.KeyOf(b))] = string(wire.ValueOf(b))
	}
	var dirs []string
	v.V2.Files(v2store.Keys, func(p, value string) bool {
		files[p] = value
		return true
	})
	for k := range keys {
		if p, ok := v2store.PathOf([]byte(k)); ok && v.V2.IsDir(p) {
			dirs = append(dirs, p)
		}
	}
	slices.Sort(dirs)
	w.collect(check.V2Shared(m.name, keys, files, dirs))
}

// hold notes all files that a member has.
func (w *World) hold(m *Member) {
	if !w.old() || len(w.legacy.entries) == 0 {
		return
	}
	v := m.state.View().V2
	c := check.V2Content{Member: fmt.Sprintf("%s#%d", m.name, m.life), Index: v.Index(), Files: map[string]string{}}
	v.Files("/", func(p, value string) bool {
		c.Files[p] = value
		return true
	})
	w.legacy.contents = append(w.legacy.contents, c)
	w.recall(m, v)
}

// recall compares the history of events that a member has with what happened.
func (w *World) recall(m *Member, v *v2store.View) {
	j := &w.legacy.judged
	if len(j.events) == 0 || v.Index() < j.events[0].Index {
		return
	}
	list := v.History()
	if want := min(v.Index(), limits.V2HistoryEvents); uint64(len(list)) != want {
		w.violate("v2 history", "%s at index %d has %d events in its history, not %d", m.name, v.Index(), len(list), want)
		return
	}
	for _, e := range list {
		if at := int64(e.Index) - int64(j.events[0].Index); at >= 0 {
			if text := v2event(e).String(); at >= int64(len(j.texts)) || text != j.texts[at] {
				w.violate("v2 history", "%s has the event %s in its history; what happened is another one", m.name, text)
				return
			}
		}
	}
}

// judgeLegacy looks whether all that clients of the v2 API saw can be true.
func (w *World) judgeLegacy() {
	if !w.old() {
		return
	}
	l := &w.legacy
	for _, m := range w.members {
		if m.up {
			w.hold(m)
			w.inspect(m, m.state.Applied().Index)
		}
	}
	for _, f := range l.viewers {
		f.finish()
	}
	truth, report := check.V2Log(l.entries, l.events)
	w.collect(report)
	if len(report.Violations) > 0 {
		return
	}
	var ops []check.V2Op
	for _, o := range l.ops {
		ops = append(ops, *o)
	}
	var sessions []check.V2Session
	for _, s := range l.sessions {
		sessions = append(sessions, *s)
	}
	w.collect(check.V2Linearizable(ops, truth))
	w.collect(check.V2Watches(sessions, truth, limits.V2HistoryEvents))
	w.collect(check.V2Indices(l.samples))
	w.collect(check.V2Contents(l.contents, truth))
	report = check.V2Expiries(ops, truth, check.V2Rules{
		Second: int64(time.Second), Error: l.clock.most - l.clock.least, Bound: int64(2*limits.LeaseRound + 2*time.Second), Overdue: l.overdue, Stable: l.reigns(w),
	})
	w.counts.V2Expired += report.Expired
	w.collect(report)
}

// reigns are the times in which one member led undisturbed.
func (l *legacy) reigns(w *World) []check.Span {
	w.leases.reign.end(w.now)
	return w.leases.reign.spans
}

// lastOfLegacy has time pass in which what has expired goes, and everything reach the watchers.
func (w *World) lastOfLegacy() {
	if !w.old() || w.stopped {
		return
	}
	w.run(w.now + 3*time.Second)
	for limit := w.now + w.set.Calm; !w.stopped && w.behind() != ""; {
		if w.now >= limit {
			w.violate("stuck", "%v after the last request: %s", w.set.Calm, w.behind())
			return
		}
		w.run(w.now + 100*time.Millisecond)
	}
}

// behind says what a member lacks, or holds that has expired.
func (w *World) behind() string {
	index, _ := w.newest()
	leader := w.leader()
	for _, m := range w.members {
		if !m.up || m.state.Applied().Index != index {
			return m.name + " has not applied everything"
		}
	}
	if due := leader.state.View().V2.NextExpiry(); due != 0 && due <= leader.clock.Now().UnixNano() {
		return fmt.Sprintf("%s has what expired at %d", leader.name, due)
	}
	return ""
}

// shares learns whether the tree shares the keys.
func (a *applications) shares(c *command.Command) {
	var q wire.V2Request
	if q.Unmarshal(c.Body) == nil && q.Method == "MODE" {
		a.shared = q.Val == modeShared
	}
}

// v2need is what a request of the v2 API needs. Clients are root, so it does not matter which key it is.
func v2need(c *command.Command) need {
	var q wire.V2Request
	if err := q.Unmarshal(c.Body); err != nil || q.Method == "SYNC" || q.Method == "MODE" {
		return need{}
	}
	return need{level: ofKeys, touches: []touch{{write: q.Method != "QGET", key: q.Path}}}
}
