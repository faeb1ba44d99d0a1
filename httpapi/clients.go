package httpapi

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// clientVersionsMax bounds the distinct versions that clients can make us count; others are counted as "other".
const clientVersionsMax = 32

// The version label of clients that send none, and of those beyond the bound.
const (
	versionUnknown = "unknown"
	versionOther   = "other"
)

// Clients counts calls and streams by the API version that clients say they speak. Counting is one map lookup and one
// atomic addition; the map is replaced, never changed.
type Clients struct {
	counts [2]atomic.Pointer[map[string]*atomic.Uint64] // of calls and of streams
	mu     sync.Mutex                                   // held to replace a map
	desc   *prometheus.Desc
}

func newClients() *Clients {
	c := &Clients{desc: desc("etcd_server_client_requests_total", "Calls and streams begun, by the API version of the client.", "type", "client_api_version")}
	for i := range c.counts {
		c.counts[i].Store(&map[string]*atomic.Uint64{})
	}
	return c
}

// Request counts one call or stream of a client that sent this version, "" for none.
func (c *Clients) Request(stream bool, version string) {
	if version == "" {
		version = versionUnknown
	}
	kind := 0
	if stream {
		kind = 1
	}
	n := (*c.counts[kind].Load())[version]
	if n == nil {
		n = c.add(kind, version)
	}
	n.Add(1)
}

// add makes room for a version seen for the first time.
func (c *Clients) add(kind int, version string) *atomic.Uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := *c.counts[kind].Load()
	if len(old) >= clientVersionsMax && old[version] == nil {
		version = versionOther
	}
	if n := old[version]; n != nil {
		return n
	}
	grown := maps.Clone(old)
	n := new(atomic.Uint64)
	grown[strings.Clone(version)] = n
	c.counts[kind].Store(&grown)
	return n
}

// Describe implements prometheus.Collector. Naming nothing makes the registry check each scrape instead.
func (c *Clients) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *Clients) Collect(out chan<- prometheus.Metric) {
	for kind, name := range []string{"unary", "stream"} {
		counts := *c.counts[kind].Load()
		for _, version := range slices.Sorted(maps.Keys(counts)) {
			out <- prometheus.MustNewConstMetric(c.desc, prometheus.CounterValue, float64(counts[version].Load()), name, version)
		}
	}
}
