package metamorphic

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/check"
	"quorate.dev/quorate/member"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/state"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wire"
)

// script is one log of commands, questions between them, watchers, and all answers that the reference settings give.
type script struct {
	hosted   bool // it holds only what a raft host can propose
	cmds     []command.Command
	steps    []step
	probes   []probe // ascending
	watchers []watching
	events   check.Watch                   // everything, for the truth
	hashes   map[[2]ids.Revision]mvcc.Hash // of compactions: before, at
	digests  map[ids.Revision]uint32       // of everything at each revision
	final    string                        // statistics and records when no housekeeping is left
}

// step is what the reference answers to one command.
type step struct {
	result                  string
	events, leases, members []string
	revision, compacted     int64 // after it
}

// probe is a set of questions after so many commands, and their answers.
type probe struct {
	at     int
	ranges []wire.RangeRequest
	hashes []ids.Revision
	want   []string
	keys   [][]byte // the KeyValues of everything
}

// watching is one watcher: what it asks for, and when.
type watching struct {
	after int
	req   wire.WatchCreateRequest
}

// write makes a script and has a machine answer it one command at a time, with all housekeeping done at once.
func write(t *testing.T, seed uint64, n int) *script {
	rng := rand.New(rand.NewPCG(seed, 0))
	s := &script{hosted: seed%2 == 0, hashes: map[[2]ids.Revision]mvcc.Hash{}, digests: map[ids.Revision]uint32{1: digest(nil)}}
	g := generator{Rand: rng, hosted: s.hosted, long: seed%4 < 2}
	engine, err := storage.Open("db", storage.Options{FS: vfs.NewMem()})
	require.NoError(t, err)
	machine, err := state.Open(engine, config)
	require.NoError(t, err)
	s.events = check.Watch{Name: "reference", Key: "\x00", End: "\x00", Prev: true, Sessions: []check.Session{{From: 1}}}
	for i := range n {
		c := g.command()
		c.Index, c.Term = ids.Index(i+1), 1
		s.cmds = append(s.cmds, c)
		var result [1]command.Result
		effects, err := machine.Apply(s.cmds[i:], result[:])
		require.NoError(t, err)
		s.note(t, machine, &result[0], &effects)
		g.revision, g.compacted = s.steps[i].revision, s.steps[i].compacted
		for _, b := range effects.Events {
			if slices.ContainsFunc(b.Events, func(e mvcc.Event) bool { return e.Type == wire.EventDelete }) && rng.IntN(2) == 0 {
				g.deleted = int64(b.Revision)
			}
		}
		if i+1 == n || rng.IntN(n/10) == 0 {
			s.probes = append(s.probes, g.probe(i+1))
			p := &s.probes[len(s.probes)-1]
			p.want, p.keys = p.ask(t, machine)
			g.probed = append(g.probed, g.revision)
		}
		if rng.IntN(n/12) == 0 {
			s.watchers = append(s.watchers, watching{i + 1, g.watch()})
		}
	}
	s.final = remains(t, engine, machine, 1000, s.hosted)
	require.NoError(t, engine.Close())
	return s
}

// note takes the reference's answer to the newest command, and does the housekeeping.
func (s *script) note(t *testing.T, m *state.Machine, r *command.Result, e *state.Effects) {
	st := step{result: showResult(r)}
	st.events, st.leases, st.members = showEffects(e)
	for _, b := range e.Events {
		batch := check.Batch{Revision: int64(b.Revision)}
		for i := range b.Events {
			raw := b.Events[i].Append(nil, true)
			batch.Events = append(batch.Events, eventOf(t, raw))
		}
		sess := &s.events.Sessions[0]
		sess.Batches = append(sess.Batches, batch)
	}
	if c := e.Compacted; c != nil {
		hash, err := mvcc.HashOf(c.Frozen, c.Previous, c.At)
		require.NoError(t, err)
		require.NoError(t, c.Frozen.Close())
		s.hashes[[2]ids.Revision{c.Previous, c.At}] = hash
	}
	st.revision, st.compacted = int64(m.View().Revision()), int64(m.View().Compacted())
	s.steps = append(s.steps, st)
	all, err := m.View().Range(everything())
	require.NoError(t, err)
	s.digests[m.View().Revision()] = digest(all.KVs)
	settle(t, m, 1000)
}

// settle does all housekeeping, so many steps at a time.
func settle(t *testing.T, m *state.Machine, steps int) {
	for range 100_000 {
		more, err := m.Background(steps)
		require.NoError(t, err)
		if !more {
			return
		}
	}
	require.FailNow(t, "the housekeeping never ends")
}

// ask puts the questions of a probe.
func (p *probe) ask(t *testing.T, m *state.Machine) (answers []string, keys [][]byte) {
	v := m.View()
	all, err := v.Range(everything())
	require.NoError(t, err)
	answers = append(answers, showRange(all, err), showRest(v))
	for i := range p.ranges {
		resp, err := v.Range(&p.ranges[i])
		answers = append(answers, showRange(resp, err))
		n, err := v.Count(p.ranges[i].Key, p.ranges[i].RangeEnd, ids.Revision(p.ranges[i].Revision))
		answers = append(answers, fmt.Sprint(n, " ", showErr(err)))
	}
	image := m.Image()
	for _, rev := range p.hashes {
		h, err := image.Hash(rev)
		answers = append(answers, fmt.Sprintf("hash %+v %s", h, showErr(err)))
	}
	require.NoError(t, image.Close())
	return answers, all.KVs
}

func everything() *wire.RangeRequest {
	return &wire.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}
}

// question names the i-th answer of a probe.
func (p *probe) question(i int) string {
	switch i -= 2; {
	case i < 0:
		return "everything"
	case i < 2*len(p.ranges):
		return fmt.Sprintf("%+v", p.ranges[i/2])
	}
	return fmt.Sprintf("the hash at revision %d", p.hashes[i-2*len(p.ranges)])
}

// remains is everything there is when all housekeeping is done: statistics and, but for a host, whose log has other entries,
// every record.
func remains(t *testing.T, e *storage.Engine, m *state.Machine, steps int, hosted bool) string {
	if hosted {
		return ""
	}
	settle(t, m, steps)
	sum := new(bytes.Buffer)
	fmt.Fprintf(sum, "%+v\n", m.View().Stats())
	it, err := e.Iter(nil, nil)
	require.NoError(t, err)
	for ok := it.First(); ok; ok = it.Next() {
		fmt.Fprintf(sum, "%q -> %s\n", it.Key(), showValue(it.Value()))
	}
	require.NoError(t, it.Close())
	return sum.String()
}

// generator makes commands and questions. It knows the state they meet.
type generator struct {
	*rand.Rand
	hosted              bool
	long                bool // compactions are rare, so that more history is there than what is kept to count it quickly
	revision, compacted int64
	values              int
	probed              []int64 // the revisions of earlier probes, at which long lists began
	deleted             int64   // a late revision with a deletion: what it leaves is the oddest thing that a compaction may meet
	spans               []span  // of the transaction that is being made: its puts and deletions
}

// span is what an operation of a transaction changes.
type span struct {
	key, end []byte // end nil: key alone
	put      bool
}

// meets reports whether two spans have a key in common.
func (s span) meets(o span) bool {
	within := func(s span, key []byte) bool {
		switch {
		case s.end == nil:
			return bytes.Equal(key, s.key)
		case bytes.Equal(s.end, []byte{0}):
			return bytes.Compare(key, s.key) >= 0
		}
		return bytes.Compare(key, s.key) >= 0 && bytes.Compare(key, s.end) < 0
	}
	return within(s, o.key) || within(o, s.key)
}

// changes reports whether a transaction may have the change besides those that it has: no key is put twice, nor put and
// deleted, as the front of the store has checked.
func (g *generator) changes(s span) bool {
	for _, o := range g.spans {
		if (s.put || o.put) && s.meets(o) {
			return false
		}
	}
	g.spans = append(g.spans, s)
	return true
}

func (g *generator) key() []byte {
	switch g.IntN(40) {
	case 0:
		return fmt.Appendf(nil, "k%02d\x00\xff", g.IntN(9))
	case 1:
		return fmt.Appendf(nil, "long%0400d", g.IntN(4))
	}
	return fmt.Appendf(nil, "k%02d", g.IntN(70))
}

func (g *generator) end() []byte {
	switch g.IntN(8) {
	case 0:
		return []byte{0}
	case 1, 2, 3:
		return g.key()
	}
	return nil
}

// past is a revision, mostly one that can be read.
func (g *generator) past() int64 {
	switch g.IntN(12) {
	case 0:
		return g.Int64N(g.revision + 4)
	case 1:
		return max(g.compacted, 0)
	case 2, 3:
		if n := len(g.probed); n > 0 {
			return g.probed[g.IntN(n)] + g.Int64N(3)
		}
	}
	low := max(g.compacted, 1)
	return low + g.Int64N(max(g.revision-low, 0)+1)
}

func (g *generator) value() []byte {
	g.values++
	v := fmt.Appendf(nil, "v%d.", g.values)
	switch n := g.IntN(100); {
	case n < 60:
		return v
	case n < 90:
		return append(v, make([]byte, g.IntN(1500))...)
	case n < 98:
		fill := make([]byte, 2000+g.IntN(10_000))
		for i := range fill {
			fill[i] = byte(g.Uint32())
		}
		return append(v, fill...)
	}
	return nil
}

func (g *generator) lease() int64 {
	if g.IntN(3) > 0 {
		return 0
	}
	return int64(1 + g.IntN(14))
}

func (g *generator) put() *wire.PutRequest {
	p := &wire.PutRequest{Key: g.key(), Value: g.value(), Lease: g.lease(), PrevKV: g.IntN(2) == 0}
	switch g.IntN(15) {
	case 0:
		p.Value, p.IgnoreValue = nil, true
	case 1:
		p.Lease, p.IgnoreLease = 0, true
	}
	return p
}

func (g *generator) get() *wire.RangeRequest {
	r := &wire.RangeRequest{Key: g.key(), RangeEnd: g.end(), Limit: g.Int64N(6)}
	if g.IntN(2) == 0 {
		r.Revision = g.past()
	}
	switch g.IntN(8) {
	case 0:
		r.KeysOnly = true
	case 1:
		r.CountOnly = true
	case 2:
		r.MinModRevision, r.MaxCreateRevision = g.past(), g.past()
	case 3, 4:
		r.SortOrder, r.SortTarget = wire.SortOrder(g.IntN(3)), wire.SortTarget(g.IntN(5))
	}
	return r
}

func (g *generator) txn(depth int) *wire.TxnRequest {
	targets := []wire.CompareTarget{wire.CompareVersion, wire.CompareCreate, wire.CompareMod}
	t := &wire.TxnRequest{}
	for range g.IntN(3) {
		c := wire.Compare{Target: targets[g.IntN(3)], Result: wire.CompareResult(g.IntN(4)), Key: g.key(), Number: g.Int64N(4)}
		if c.Target != wire.CompareVersion {
			c.Number = g.past()
		}
		c.Union = map[wire.CompareTarget]int32{wire.CompareVersion: 4, wire.CompareCreate: 5, wire.CompareMod: 6}[c.Target]
		if g.IntN(4) == 0 {
			c.RangeEnd = g.end()
		}
		t.Compare = append(t.Compare, c)
	}
	for range g.IntN(5) {
		t.Success = append(t.Success, g.op(depth))
	}
	for range g.IntN(5) {
		t.Failure = append(t.Failure, g.op(depth))
	}
	return t
}

func (g *generator) op(depth int) wire.RequestOp {
	switch n := g.IntN(20); {
	case n < 8:
		if put := g.put(); g.changes(span{key: put.Key, put: true}) {
			return wire.RequestOp{Put: put}
		}
	case n < 11:
		del := &wire.DeleteRangeRequest{Key: g.key(), RangeEnd: g.end(), PrevKV: true}
		if g.changes(span{key: del.Key, end: del.RangeEnd}) {
			return wire.RequestOp{DeleteRange: del}
		}
	case n < 13 && depth > 0:
		return wire.RequestOp{Txn: g.txn(depth - 1)}
	}
	return wire.RequestOp{Range: g.get()}
}

// appender is a request of package wire.
type appender interface{ Append([]byte) []byte }

func (g *generator) command() command.Command {
	c := g.sensible()
	if g.IntN(150) == 0 && len(c.Body) > 0 { // damage
		switch c.Kind {
		case command.ConfChange:
		case command.Txn: // so that it puts no key twice
			c.Body = c.Body[:g.IntN(len(c.Body))]
		default:
			c.Body[g.IntN(len(c.Body))] ^= byte(1 + g.IntN(255))
		}
	}
	return c
}

func (g *generator) sensible() command.Command {
	cmd := func(kind command.Kind, m appender) command.Command {
		return command.Command{Kind: kind, Body: m.Append(nil)}
	}
	switch n := g.IntN(1000); {
	case n < 470:
		return cmd(command.Put, g.put())
	case n < 560:
		return cmd(command.DeleteRange, &wire.DeleteRangeRequest{Key: g.key(), RangeEnd: g.end(), PrevKV: g.IntN(2) == 0})
	case n < 800:
		g.spans = g.spans[:0]
		return cmd(command.Txn, g.txn(2))
	case n < 850:
		return cmd(command.LeaseGrant, &wire.LeaseGrantRequest{ID: g.Int64N(15), TTL: g.Int64N(100) - 10})
	case n < 870:
		return cmd(command.LeaseRevoke, &wire.LeaseRevokeRequest{ID: g.Int64N(15)})
	case n < 895:
		return cmd(command.LeaseCheckpoint, &wire.LeaseCheckpointRequest{Checkpoints: []wire.LeaseCheckpoint{{ID: g.Int64N(15), RemainingTTL: g.Int64N(50)}}})
	case n < 925 && g.long && g.IntN(8) > 0:
		return cmd(command.Put, g.put())
	case n < 925:
		rev := g.past()
		if g.IntN(3) > 0 { // keep some history
			rev = max(g.compacted, 1) + (rev-max(g.compacted, 1))/3
		}
		if g.IntN(3) == 0 {
			rev = g.deleted
		}
		return cmd(command.Compaction, &wire.CompactionRequest{Revision: rev})
	case n < 927:
		return cmd(command.Alarm, &wire.AlarmRequest{Action: wire.AlarmActivate, MemberID: 3, Alarm: wire.AlarmType(g.IntN(3))})
	case n < 960:
		return cmd(command.Alarm, &wire.AlarmRequest{Action: wire.AlarmDeactivate, MemberID: 3, Alarm: wire.AlarmType(1 + g.IntN(2))})
	case n < 965:
		return cmd(command.ClusterVersion, &wire.ClusterVersionSetRequest{Ver: fmt.Sprintf("3.%d.0", 5+g.IntN(3))})
	case n < 970:
		return cmd(command.DowngradeInfo, &wire.DowngradeInfoSetRequest{Enabled: g.IntN(2) == 0, Ver: "3.6.0"})
	case g.hosted:
		return cmd(command.Put, g.put())
	case n < 975:
		return cmd(command.MemberAttributes, &wire.ClusterMemberAttrSetRequest{MemberID: 1 + g.Uint64N(4), Name: "n", ClientURLs: []string{"http://c"}})
	case n < 990:
		id := 1 + g.Uint64N(5)
		m := member.Member{ID: ids.MemberID(id), PeerURLs: []string{fmt.Sprintf("http://%d:1", g.IntN(8))}}
		body, err := proto.Marshal(&raftpb.ConfChange{Type: raftpb.ConfChangeType(g.IntN(5)).Enum(), NodeId: proto.Uint64(id), Context: m.JSON()})
		if err != nil {
			panic(err)
		}
		return command.Command{Kind: command.ConfChange, Body: body}
	case n < 996:
		return command.Command{Kind: command.Empty}
	}
	return command.Command{Kind: command.Unknown, Body: []byte("?")}
}

func (g *generator) probe(at int) probe {
	p := probe{at: at, hashes: []ids.Revision{0, ids.Revision(g.past()), ids.Revision(g.past()), ids.Revision(g.past())}}
	for range 12 {
		p.ranges = append(p.ranges, *g.get())
	}
	return p
}

// watch asks for what comes, or for what was.
func (g *generator) watch() wire.WatchCreateRequest {
	req := wire.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}, PrevKV: g.IntN(2) == 0, Fragment: g.IntN(2) == 0}
	switch g.IntN(4) {
	case 0:
		req.Key, req.RangeEnd = g.key(), nil
	case 1:
		req.Key, req.RangeEnd = []byte("k1"), []byte("k4")
	}
	switch g.IntN(5) {
	case 0:
		req.Filters = []wire.FilterType{wire.FilterNoPut}
	case 1:
		req.Filters = []wire.FilterType{wire.FilterNoDelete}
	}
	req.StartRevision = g.revision + 1 + g.Int64N(5)
	if g.IntN(2) == 0 {
		req.StartRevision = max(g.past(), 1)
	}
	return req
}
