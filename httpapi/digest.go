package httpapi

import "time"

// Digest is what a page that draws a member's load needs of its metrics: counters since the start and the buckets of a few
// histograms, from which a reader of two digests gets rates and quantiles. It tells nothing that a scrape does not.
type Digest struct {
	At       int64                   `json:"at"` // Unix time, milliseconds
	Member   string                  `json:"member"`
	Versions DigestVersions          `json:"versions"`
	Bounds   DigestBounds            `json:"bounds"`
	Requests map[string]DigestResult `json:"requests"` // by the type of etcd_server_request_duration_seconds
	Range    DigestTimes             `json:"range"`    // Range requests that succeeded, in finer buckets
	Fsync    DigestTimes             `json:"fsync"`
	Commit   DigestTimes             `json:"commit"`
	Peers    map[string]DigestTimes  `json:"peers"` // round trips, by id of the other member
	Sent     uint64                  `json:"sent"`  // bytes to clients
	Received uint64                  `json:"received"`
	Sample   Sample                  `json:"sample"`
}

// DigestVersions are those of this program, and of the etcd release that it is compatible with.
type DigestVersions struct {
	Own  string `json:"quorate"`
	Etcd string `json:"etcd"`
}

// DigestResult is how requests of one type went.
type DigestResult struct {
	OK     DigestTimes `json:"ok"`
	Failed uint64      `json:"failed"`
}

// DigestBounds are the upper bounds of the histograms' buckets: seconds, ascending.
type DigestBounds struct {
	Requests []float64 `json:"requests"`
	Range    []float64 `json:"range"`
	Disk     []float64 `json:"disk"`
	Peers    []float64 `json:"peers"`
}

// DigestTimes is a histogram: counts has one element more than its bounds, for what is above them all.
type DigestTimes struct {
	Counts []uint64 `json:"counts"`
	Sum    float64  `json:"sum"` // seconds
}

// Digest reads the metrics. now is the time to write into it.
func (m *Metrics) Digest(now time.Time) Digest {
	d := Digest{
		At: now.UnixMilli(), Member: m.own.ServerID, Versions: DigestVersions{Own: m.own.QuorateOwn, Etcd: m.own.EtcdVersion},
		Bounds:   DigestBounds{Range: m.Ranges.Find(rangeOp)[1].bounds, Disk: m.Fsync.bounds, Peers: peerBounds, Requests: m.Request.hists[0][1].bounds},
		Requests: map[string]DigestResult{}, Range: m.Ranges.Find(rangeOp)[1].digest(), Fsync: m.Fsync.digest(), Commit: m.Commit.digest(),
		Peers: map[string]DigestTimes{}, Sent: m.RPC.sent.Load(), Received: m.RPC.received.Load(), Sample: m.own.Read(),
	}
	for i, name := range m.Request.names {
		pair := m.Request.hists[i]
		d.Requests[name] = DigestResult{OK: pair[1].digest(), Failed: pair[0].count()}
	}
	m.Peers.RoundTrips.byID.Range(func(id, h any) bool {
		d.Peers[id.(string)] = h.(*Histogram).digest()
		return true
	})
	return d
}
