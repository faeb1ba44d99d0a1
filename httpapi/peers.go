package httpapi

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// PeerSample is what passed between this member and another one, since that was added.
type PeerSample struct {
	ID                                            string // hexadecimal
	Active                                        bool   // it is connected
	Disconnects                                   uint64
	SentBytes, ReceivedBytes                      uint64
	SendFailures, ReceiveFailures                 uint64
	SnapshotsSending, SnapshotsReceiving          int64 // under way
	SnapshotsSent, SnapshotsReceived              uint64
	SnapshotSendFailures, SnapshotReceiveFailures uint64
	SnapshotBytes                                 uint64 // received
}

// Peers are how long things take that members do with each other. Its methods are for concurrent use.
type Peers struct {
	RoundTrips, SnapshotsSent, SnapshotsReceived *Times
}

func newRoundTrips() *Histogram { return NewHistogram(0.0001, 2, 16) }

// peerBounds are those of the round trips, of which there is none before there is another member.
var peerBounds = newRoundTrips().bounds

func newPeers() *Peers {
	slow := func() *Histogram { return NewHistogram(0.1, 2, 10) }
	return &Peers{
		RoundTrips: &Times{
			desc:  desc("etcd_network_peer_round_trip_time_seconds", "Time that a member took to answer a probe.", "To"),
			fresh: newRoundTrips,
		},
		SnapshotsSent:     &Times{desc: desc("etcd_network_snapshot_send_total_duration_seconds", "Time until a member had fetched a snapshot.", "To"), fresh: slow},
		SnapshotsReceived: &Times{desc: desc("etcd_network_snapshot_receive_total_duration_seconds", "Time until a snapshot was whole and durable here.", "From"), fresh: slow},
	}
}

// Describe implements prometheus.Collector. Naming nothing makes the registry check each scrape instead.
func (p *Peers) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (p *Peers) Collect(out chan<- prometheus.Metric) {
	p.RoundTrips.collect(out)
	p.SnapshotsSent.collect(out)
	p.SnapshotsReceived.collect(out)
}

// Times are latency histograms by member.
type Times struct {
	desc  *prometheus.Desc
	fresh func() *Histogram
	byID  sync.Map // string to *Histogram
}

// Observe counts one duration of a member, whose id is hexadecimal.
func (t *Times) Observe(id string, took time.Duration) {
	h, ok := t.byID.Load(id)
	if !ok {
		h, _ = t.byID.LoadOrStore(id, t.fresh())
	}
	h.(*Histogram).Observe(took)
}

func (t *Times) collect(out chan<- prometheus.Metric) {
	t.byID.Range(func(id, h any) bool {
		out <- h.(*Histogram).metric(t.desc, id.(string))
		return true
	})
}

// peerReading is one series of a member. Source of names and labels: etcd's rafthttp.
type peerReading struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	local bool // it has this member's id as its first label
	shown bool // from the start; the others when there was something to count
	read  func(p *PeerSample) float64
}

func peerReadings() []peerReading {
	to := func(name, help string, read func(p *PeerSample) float64) peerReading {
		return peerReading{desc: desc(name, help, "To"), kind: counter, read: read}
	}
	from := func(name, help string, read func(p *PeerSample) float64) peerReading {
		return peerReading{desc: desc(name, help, "From"), kind: counter, read: read}
	}
	count := func(n uint64) float64 { return float64(n) }
	all := []peerReading{
		to("etcd_network_peer_sent_bytes_total", "Bytes sent to a member.", func(p *PeerSample) float64 { return count(p.SentBytes) }),
		from("etcd_network_peer_received_bytes_total", "Bytes received from a member.", func(p *PeerSample) float64 { return count(p.ReceivedBytes) }),
		to("etcd_network_peer_sent_failures_total", "Messages that could not be sent to a member.", func(p *PeerSample) float64 { return count(p.SendFailures) }),
		from("etcd_network_peer_received_failures_total", "What a member sent and could not be received.", func(p *PeerSample) float64 { return count(p.ReceiveFailures) }),
		to("etcd_network_snapshot_send_success", "Snapshots that a member has fetched.", func(p *PeerSample) float64 { return count(p.SnapshotsSent) }),
		to("etcd_network_snapshot_send_failures", "Snapshots that a member has not fetched.", func(p *PeerSample) float64 { return count(p.SnapshotSendFailures) }),
		from("etcd_network_snapshot_receive_success", "Snapshots received from a member.", func(p *PeerSample) float64 { return count(p.SnapshotsReceived) }),
		from("etcd_network_snapshot_receive_failures", "Snapshots that could not be received from a member.", func(p *PeerSample) float64 { return count(p.SnapshotReceiveFailures) }),
		from("quorate_network_snapshot_received_bytes_total", "Bytes of snapshots received from a member.", func(p *PeerSample) float64 { return count(p.SnapshotBytes) }),
	}
	all[0].shown, all[1].shown = true, true
	return append(all,
		peerReading{desc("etcd_network_active_peers", "1 while a member is connected.", "Local", "Remote"), gauge, true, true, func(p *PeerSample) float64 { return number(p.Active) }},
		peerReading{desc("etcd_network_disconnected_peers_total", "Times that a member was lost.", "Local", "Remote"), counter, true, false, func(p *PeerSample) float64 { return count(p.Disconnects) }},
		peerReading{desc("etcd_network_snapshot_send_inflights_total", "Snapshots being sent to a member.", "To"), gauge, false, false, func(p *PeerSample) float64 { return float64(p.SnapshotsSending) }},
		peerReading{desc("etcd_network_snapshot_receive_inflights_total", "Snapshots being received from a member.", "From"), gauge, false, false, func(p *PeerSample) float64 { return float64(p.SnapshotsReceiving) }},
	)
}

func (r *peerReading) collect(out chan<- prometheus.Metric, local string, p *PeerSample) {
	v := r.read(p)
	if v == 0 && !r.shown {
		return
	}
	labels := []string{p.ID}
	if r.local {
		labels = []string{local, p.ID}
	}
	out <- prometheus.MustNewConstMetric(r.desc, r.kind, v, labels...)
}
