package world

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/ids"
)

// courier carries the snapshots of one life of a member to others: it announces one, the other fetches its files, and may have to do
// so in several goes.
type courier struct {
	m    *Member
	life int
}

var errUnderWay = errors.New("the connection broke")

// Send implements node.Snapshots.
func (c *courier) Send(m *raftpb.Message, done func(error)) {
	w := c.m.w
	to := ids.MemberID(m.GetTo())
	finish := func(err error) { c.m.enter(c.life, func() { done(err) }) }
	manifest, meta, err := c.m.depot.Take(ids.Index(m.GetSnapshot().GetMetadata().GetIndex()), to)
	d, ok := w.net.passes(c.m.ID, to)
	if err != nil || !ok {
		w.after(d, func() { finish(errors.Join(err, errUnderWay)) })
		return
	}
	announced := &raftpb.Message{Type: m.Type, To: m.To, From: m.From, Term: m.Term, Snapshot: &raftpb.Snapshot{Data: manifest, Metadata: meta}}
	body, err := proto.Marshal(announced)
	if err != nil {
		w.broken("a snapshot cannot be announced: %v", err)
		return
	}
	w.after(d, func() { c.fetch(to, manifest, body, finish) })
}

// fetch has the receiver fetch the files, and then has raft hear of the snapshot.
func (c *courier) fetch(to ids.MemberID, manifest, body []byte, finish func(error)) {
	w := c.m.w
	other := w.member(to)
	if other == nil || !other.up || other.paused {
		w.after(time.Second, func() { finish(errUnderWay) })
		return
	}
	life := other.life
	err := other.depot.Receive(context.Background(), manifest, c.serve)
	if err == nil {
		w.counts.Snapshots++
	}
	w.trace.note(other.name, "fetches a snapshot from %s: %v", c.m.name, err)
	w.after(w.between(time.Millisecond, 200*time.Millisecond), func() {
		if err != nil || other.life != life || w.net.cut[link{to, c.m.ID}] {
			finish(errors.Join(err, errUnderWay))
			return
		}
		w.arrive(c.m.ID, to, body)
		finish(nil)
	})
}

// serve gives a file from an offset on, now and then not all of it.
func (c *courier) serve(_ context.Context, name, file string, from int64) (io.ReadCloser, error) {
	w := c.m.w
	if !c.m.up || c.m.life != c.life || c.m.paused {
		return nil, errUnderWay
	}
	var b bytes.Buffer
	if err := c.m.depot.Serve(&b, name, file, from); err != nil {
		return nil, err
	}
	if w.chance(16) {
		b.Truncate(w.rng.IntN(b.Len() + 1))
		return io.NopCloser(io.MultiReader(&b, broken{})), nil
	}
	return io.NopCloser(&b), nil
}

// broken is the rest of a connection that broke.
type broken struct{}

// Read implements io.Reader.
func (broken) Read([]byte) (int, error) { return 0, errUnderWay }

// Install implements node.Snapshots.
func (c *courier) Install(meta *raftpb.SnapshotMetadata) error { return c.m.depot.Install(meta) }
