package peer

import (
	"cmp"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"quorate.dev/quorate/ids"
)

// Observer is told how long things took. It must not block. Its methods are called by several goroutines at once.
type Observer interface {
	// RoundTrip says how long a member took to answer a probe.
	RoundTrip(to ids.MemberID, took time.Duration)
	// SnapshotSent says that a member has fetched a snapshot.
	SnapshotSent(to ids.MemberID, took time.Duration)
	// SnapshotReceived says that a snapshot of a member is whole and durable here.
	SnapshotReceived(from ids.MemberID, took time.Duration)
}

// silent observes nothing.
type silent struct{}

func (silent) RoundTrip(ids.MemberID, time.Duration)        {}
func (silent) SnapshotSent(ids.MemberID, time.Duration)     {}
func (silent) SnapshotReceived(ids.MemberID, time.Duration) {}

// tally counts what passes between this member and another one.
type tally struct {
	sent, received            atomic.Uint64 // bytes of messages and snapshots
	sendFailed, receiveFailed atomic.Uint64
	disconnects               atomic.Uint64
	snapshotsOut, snapshotsIn transfers
	snapshotBytes             atomic.Uint64 // received, with what frames them
}

// transfers counts snapshots one way.
type transfers struct {
	now          atomic.Int64
	done, failed atomic.Uint64
}

// begin counts a transfer; the returned function counts its end.
func (t *transfers) begin() (end func(err error)) {
	t.now.Add(1)
	return func(err error) {
		t.now.Add(-1)
		if err != nil {
			t.failed.Add(1)
			return
		}
		t.done.Add(1)
	}
}

// Transfers are snapshots sent to a member or received from it.
type Transfers struct {
	Now          int64  // under way
	Done, Failed uint64 // since the member was added
}

// PeerStats are counts of what passed between this member and another one since that was added.
type PeerStats struct {
	ID                        ids.MemberID
	Active                    bool   // a stream works
	Disconnects               uint64 // times that the last stream ended
	Sent, Received            uint64 // bytes of messages and of snapshots
	SendFailed, ReceiveFailed uint64 // messages that could not be sent, and requests that could not be read
	SnapshotsOut, SnapshotsIn Transfers
	SnapshotBytes             uint64 // bytes of snapshots that the member has sent
}

// Peers returns the counts of all members that are known, by id.
func (t *Transport) Peers() []PeerStats {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var out []PeerStats
	for id, r := range t.remotes {
		c := &r.tally
		out = append(out, PeerStats{
			ID: id, Active: !r.activeSince().IsZero(), Disconnects: c.disconnects.Load(), Sent: c.sent.Load(), Received: c.received.Load(),
			SendFailed: c.sendFailed.Load(), ReceiveFailed: c.receiveFailed.Load(), SnapshotsOut: c.snapshotsOut.read(), SnapshotsIn: c.snapshotsIn.read(),
			SnapshotBytes: c.snapshotBytes.Load(),
		})
	}
	slices.SortFunc(out, func(a, b PeerStats) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

func (t *transfers) read() Transfers {
	return Transfers{Now: t.now.Load(), Done: t.done.Load(), Failed: t.failed.Load()}
}

// counted counts the bytes that are read.
type counted struct {
	io.ReadCloser
	n *atomic.Uint64
}

// Read implements io.Reader.
func (c counted) Read(b []byte) (int, error) {
	n, err := c.ReadCloser.Read(b)
	c.n.Add(uint64(n))
	return n, err
}
