package node_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/node"
)

// outbox keeps what a member sends.
type outbox struct{ sent []*raftpb.Message }

func (o *outbox) Send(messages []*raftpb.Message) { o.sent = append(o.sent, messages...) }

func (o *outbox) ActiveSince(ids.MemberID) time.Time { return time.Time{} }

func (o *outbox) asks() (out []*raftpb.Message) {
	for _, m := range o.sent {
		if m.GetType() == raftpb.MsgVote {
			out = append(out, m)
		}
	}
	return out
}

// TestVotesAreAskedForInADurableTerm has a member campaign whose log is slow. Were it elected before its term is durable, it could lose its power,
// be elected in that term again, and give the same index and term to another entry.
func TestVotesAreAskedForInADurableTerm(t *testing.T) {
	m, sent := newMember(t, 2, 3, self), &outbox{}
	c := m.config()
	c.Transport = sent
	d, err := node.Drive(c)
	require.NoError(t, err)
	defer d.Abandon()
	for range 5 { // what it begins with
		d.Turn()
		d.Write()
		d.Apply()
	}
	before := m.log.durable.GetTerm()
	for range 3 * timing.ElectionTicks {
		d.Tick()
		d.Turn()
	}
	require.Empty(t, sent.asks(), "it asks for votes in a term that a loss of power makes it forget")
	require.Equal(t, before, m.log.durable.GetTerm())
	d.Write()
	d.Turn()
	asks := sent.asks()
	require.NotEmpty(t, asks)
	to := map[uint64]bool{}
	for _, a := range asks {
		to[a.GetTo()] = true
		require.LessOrEqual(t, a.GetTerm(), m.log.durable.GetTerm())
	}
	require.Len(t, to, 2)
}
