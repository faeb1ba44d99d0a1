package server

import (
	"errors"
	"maps"
	"sync"
	"time"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/httpapi"
	"quorate.dev/quorate/ids"
)

// RoundTrip implements peer.Observer.
func (p *peers) RoundTrip(to ids.MemberID, took time.Duration) {
	p.s.core.metrics.Peers.RoundTrips.Observe(to.String(), took)
}

// SnapshotSent implements peer.Observer.
func (p *peers) SnapshotSent(to ids.MemberID, took time.Duration) {
	p.s.core.metrics.Peers.SnapshotsSent.Observe(to.String(), took)
}

// SnapshotReceived implements peer.Observer.
func (p *peers) SnapshotReceived(from ids.MemberID, took time.Duration) {
	p.s.core.metrics.Peers.SnapshotsReceived.Observe(from.String(), took)
}

// sample is what metrics show of the other members.
func (p *peers) sample() []httpapi.PeerSample {
	var out []httpapi.PeerSample
	for _, s := range p.Peers() {
		out = append(out, httpapi.PeerSample{
			ID: s.ID.String(), Active: s.Active, Disconnects: s.Disconnects, SentBytes: s.Sent, ReceivedBytes: s.Received,
			SendFailures: s.SendFailed, ReceiveFailures: s.ReceiveFailed,
			SnapshotsSending: s.SnapshotsOut.Now, SnapshotsSent: s.SnapshotsOut.Done, SnapshotSendFailures: s.SnapshotsOut.Failed,
			SnapshotsReceiving: s.SnapshotsIn.Now, SnapshotsReceived: s.SnapshotsIn.Done, SnapshotReceiveFailures: s.SnapshotsIn.Failed,
			SnapshotBytes: s.SnapshotBytes,
		})
	}
	return out
}

// promotions counts what became of promotions that this member decided on as the leader.
type promotions struct {
	mu      sync.Mutex
	done    uint64
	refused map[string]uint64 // by reason
}

// promotionReasons bounds the reasons that are told apart.
const promotionReasons = 16

// counting counts what done is called with. That another member leads is no refusal: it decides.
func (p *promotions) counting(done func(error)) func(error) {
	return func(err error) {
		p.count(err)
		done(err)
	}
}

func (p *promotions) count(err error) {
	if errors.Is(err, fault.NotLeader) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.done++
		return
	}
	if p.refused == nil {
		p.refused = map[string]uint64{}
	}
	reason := err.Error()
	if _, known := p.refused[reason]; !known && len(p.refused) >= promotionReasons {
		reason = "other"
	}
	p.refused[reason]++
}

func (p *promotions) read() (done uint64, refused map[string]uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done, maps.Clone(p.refused)
}
